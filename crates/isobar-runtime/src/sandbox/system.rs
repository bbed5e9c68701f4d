//! The parts of a host that every confined child may see: programs, libraries, name resolution, certificates, a few
//! devices. No configuration that holds secrets, no homes, no `/tmp` but the team's own, no `/opt`, no `/var`.

/// Folders of programs and libraries, for reading and executing.
pub(super) const PROGRAMS: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs need of `/etc`. Named one by one, so that no other service's configuration comes along; in
/// particular not `shadow`, not `ssl/private`, not Isobar's own.
pub(super) const ETC: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "hostname",
    "hosts",
    "inputrc",
    "java",
    "krb5.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "lsb-release",
    "machine-id",
    "magic",
    "magic.mime",
    "mime.types",
    "netconfig",
    "nsswitch.conf",
    "odbc.ini",
    "odbcinst.ini",
    "os-release",
    "passwd",
    "pki/ca-trust",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "python3.11",
    "resolv.conf",
    "rpc",
    "services",
    "ssh/ssh_config",
    "ssh/ssh_config.d",
    "ssh/ssh_known_hosts",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// More to read: process and hardware facts, and where name-service daemons keep `resolv.conf`.
pub(super) const FACTS: &[&str] = &[
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager/resolv.conf",
];

/// Devices to read and write.
pub(super) const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// Shared memory; opened only where it is the team's own or the team has a user of its own, since the folder is everybody's.
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// Where everybody puts files for a while.
pub(super) const TMP: &str = "/tmp";

/// The same, for what should outlive a restart.
pub(super) const LASTING_TMP: &str = "/var/tmp";
