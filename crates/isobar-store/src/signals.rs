//! "Look now" between tasks of one process and, on PostgreSQL, between processes (`NOTIFY`).

use isobar_model::TeamId;
use isobar_wire::wake::{Wake, Waker};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;

/// Hints of commits. Hints may repeat and may be lost; rows are the truth, and a sweep finds what was missed.
#[derive(Clone)]
pub struct Signals {
    channel: broadcast::Sender<Wake>,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            channel: broadcast::Sender::new(1024),
        }
    }

    /// Hears of everything from now on. A lagging receiver has missed hints and should look at everything.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.channel.subscribe()
    }

    pub(crate) fn announce(&self, wake: Wake) {
        let _ = self.channel.send(wake);
    }

    pub(crate) fn payload(wake: Wake) -> String {
        match wake {
            Wake::Events => "events".to_owned(),
            Wake::Definitions => "definitions".to_owned(),
            Wake::Callbacks(team) => format!("callbacks:{team}"),
            Wake::Questions(team) => format!("questions:{team}"),
            Wake::Triggers(team) => format!("triggers:{team}"),
            Wake::Listeners(team) => format!("listeners:{team}"),
        }
    }

    fn read(payload: &str) -> Option<Wake> {
        match payload {
            "events" => Some(Wake::Events),
            "definitions" => Some(Wake::Definitions),
            other => {
                let (what, team) = other.split_once(':')?;
                let team = TeamId(team.parse().ok()?);
                match what {
                    "callbacks" => Some(Wake::Callbacks(team)),
                    "questions" => Some(Wake::Questions(team)),
                    "triggers" => Some(Wake::Triggers(team)),
                    "listeners" => Some(Wake::Listeners(team)),
                    _ => None,
                }
            }
        }
    }

    /// Forwards notifications of other processes, for as long as the pool is open.
    pub(crate) fn listen(&self, pool: PgPool) {
        let signals = self.clone();
        tokio::spawn(async move {
            while !pool.is_closed() {
                if let Err(error) = signals.forward(&pool).await {
                    tracing::warn!(%error, "lost the notification connection; sweeps go on, trying again in 1 s");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        });
    }

    async fn forward(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen("isobar").await?;
        // What happened while nobody listened: look at everything once.
        self.announce(Wake::Events);
        self.announce(Wake::Definitions);
        loop {
            let notification = listener.recv().await?;
            if let Some(wake) = Self::read(notification.payload()) {
                self.announce(wake);
            }
        }
    }
}

impl Waker for Signals {
    fn wake(&self, what: Wake) {
        self.announce(what);
    }
}
