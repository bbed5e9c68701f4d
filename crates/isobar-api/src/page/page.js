// The first page. Everything that a Dag author wrote is set as text, never as HTML.
const main = document.getElementById("teams");
const dialog = document.getElementById("run");

function make(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child !== null));
  return node;
}

async function ask(path, options) {
  const answer = await fetch(path, { headers: { Accept: "application/json", ...(options?.headers ?? {}) }, ...options });
  if (answer.status === 401) location.assign("/auth/login?next=/");
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

const api = (overview, team) => (overview.multi_team ? `/teams/${encodeURIComponent(team.name)}/api/v2` : "/api/v2");
const clock = (text) => (text ? new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "–");

function lasted(run) {
  if (!run.start_date) return "";
  const seconds = ((run.end_date ? new Date(run.end_date) : new Date()) - new Date(run.start_date)) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function count(label, value, bad = false) {
  return make("span", { className: bad && value ? "bad" : "" }, make("b", { textContent: value }), ` ${label}`);
}

function dagRow(overview, team, dag) {
  const runs = make("div", { className: "runs" });
  for (const run of dag.runs) {
    const title = `${run.run_id} · ${run.state} · ${lasted(run)}`;
    const dot = make("button", { className: `dot ${run.state}`, title, onclick: () => openRun(overview, team, dag, run) });
    dot.setAttribute("aria-label", title);
    runs.append(dot);
  }
  const last = dag.runs[0];
  const trigger = team.may_trigger
    ? make("button", { className: "trigger", textContent: "Trigger", onclick: () => triggerRun(overview, team, dag) })
    : null;
  return make("tr", {},
    make("td", {}, make("strong", { textContent: dag.dag_id }), dag.is_paused ? make("span", { className: "paused", textContent: "paused" }) : null,
      dag.description ? make("small", { textContent: dag.description }) : null),
    make("td", { textContent: dag.schedule ?? "" }),
    make("td", {}, runs),
    make("td", { className: "when", textContent: last ? `${clock(last.start_date)} (${lasted(last)})` : "–" }),
    make("td", { className: "when", textContent: dag.is_paused ? "–" : clock(dag.next_run) }),
    make("td", {}, trigger));
}

function teamSection(overview, team) {
  const title = make("h2", { textContent: overview.multi_team ? team.name : "Dags" });
  const role = team.role ?? overview.organisation_role;
  if (role) title.append(make("span", { className: "role", textContent: team.home && overview.multi_team ? `${role}, home` : role }));
  const counts = make("div", { className: "counts" }, count("Dags", team.dag_count), count("running", team.running), count("queued", team.queued),
    count("wait for a slot", team.scheduled), count("wait for something else", team.waiting), count("import errors", team.import_errors, true));
  const head = make("tr", {}, ...["Dag", "Schedule", "Last runs", "Last start", "Next run", ""].map((textContent) => make("th", { textContent })));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...team.dags.map((dag) => dagRow(overview, team, dag))));
  const more = team.dag_count > team.dags.length ? make("p", { className: "empty", textContent: `and ${team.dag_count - team.dags.length} more Dags` }) : null;
  const body = team.dags.length ? table : make("p", { className: "empty", textContent: "No Dags yet." });
  return make("section", {}, title, counts, body, more);
}

function chosenTeam() {
  return new URLSearchParams(location.search).get("team");
}

function draw(overview) {
  document.getElementById("who").textContent = overview.organisation_role ? `${overview.user} (${overview.organisation_role})` : overview.user;
  const chosen = chosenTeam();
  const switcher = document.getElementById("switcher");
  if (overview.multi_team && overview.teams.length > 1) {
    switcher.replaceChildren(...[null, ...overview.teams.map((team) => team.name)].map((name) => {
      const link = make("a", { href: name ? `/?team=${encodeURIComponent(name)}` : "/", textContent: name ?? "All teams" });
      if (name === chosen) link.setAttribute("aria-current", "page");
      return link;
    }));
  }
  const shown = overview.teams.filter((team) => !chosen || team.name === chosen).sort((a, b) => b.home - a.home);
  main.replaceChildren(...(shown.length ? shown.map((team) => teamSection(overview, team)) : [make("p", { className: "empty", textContent: "You belong to no team yet." })]));
}

async function triggerRun(overview, team, dag) {
  await ask(`${api(overview, team)}/dags/${encodeURIComponent(dag.dag_id)}/dagRuns`,
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ logical_date: null }) });
  await refresh();
}

async function openRun(overview, team, dag, run) {
  const base = `${api(overview, team)}/dags/${encodeURIComponent(dag.dag_id)}/dagRuns/${encodeURIComponent(run.run_id)}/taskInstances`;
  document.getElementById("run-title").textContent = `${dag.dag_id} · ${run.run_id} · ${run.state}`;
  const log = document.getElementById("log");
  log.textContent = "Choose a task to read its log.";
  const { task_instances: found } = await ask(`${base}?limit=100&order_by=start_date`);
  document.getElementById("tasks").replaceChildren(...found.map((ti) => {
    const name = ti.map_index >= 0 ? `${ti.task_id} [${ti.rendered_map_index ?? ti.map_index}]` : ti.task_id;
    const button = make("button", { title: ti.state ?? "no state", onclick: () => showLog(base, ti, button, log) },
      make("i", { className: ti.state ?? "" }), name, make("span", { textContent: ti.duration == null ? "" : `${ti.duration.toFixed(2)} s` }));
    return make("li", {}, button);
  }));
  dialog.showModal();
}

async function showLog(base, ti, button, log) {
  for (const other of document.querySelectorAll("#tasks button")) other.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  if (!ti.try_number) {
    log.textContent = "It has not started, so there is no log.";
    return;
  }
  const { content } = await ask(`${base}/${encodeURIComponent(ti.task_id)}/logs/${ti.try_number}?map_index=${ti.map_index}&full_content=true`);
  log.textContent = content
    .map((line) => (typeof line === "string" ? line : `${line.timestamp ? `${clock(line.timestamp)} ` : ""}${line.level ? `${line.level.toUpperCase()} ` : ""}${line.event}`))
    .join("\n");
}

let last = "";
async function refresh() {
  const overview = await ask("/isobar/overview");
  const text = JSON.stringify(overview);
  if (text !== last || overview.teams.some((team) => team.running)) draw(overview);
  last = text;
}

async function keepFresh() {
  try {
    if (!document.hidden) await refresh();
  } catch (problem) {
    document.getElementById("who").textContent = `not reachable: ${problem.message}`;
  }
  setTimeout(keepFresh, 3000);
}

keepFresh();
