// Puts the parts together: what arrives is shown, and what cannot be shown is said.

const MODES = {
  hardware: "the most accurate variants, on as many cores as they need",
  accuracy: "the cores are used up: faster variants carry the demand",
  overload: "not all of the demand can be carried: the excess is refused at the door",
};

const $ = (id) => document.getElementById(id);

const graph = new Graph($("graph"));
const plots = new Plots($("plots"));
const decisions = new Decisions($("decisions"), $("decisions-text"), $("more"));
const tiles = new Map();

const feed = new Feed({ onData: showData, onLocked: showDoor, onLost: showLost });

function showData({ status, history, decisions: made }) {
  $("live").hidden = false;
  $("door").hidden = true;
  $("alert").hidden = true;
  document.body.classList.remove("stale");
  document.title = `${percent(status.windows[0].attainment)} \u00b7 ${status.pipeline} \u00b7 triscale`;
  showHeader(status);
  showTiles(status);
  graph.show(status, history);
  plots.show(history);
  decisions.show(made, status);
}

function showHeader(status) {
  const facts = [status.version, `policy ${status.policy}`, `objective ${milliseconds(status.slo_ms)}`];
  $("kicker").replaceChildren(...[...facts, `up ${duration(status.uptime_s)}`].map((fact) => make("span", {}, fact)));
  say($("name"), status.pipeline);
  const plan = status.plan;
  $("mode").hidden = false;
  $("mode").className = `mode ${status.ready ? plan.mode : ""}`;
  $("mode").title = status.ready ? MODES[plan.mode] : "";
  say($("mode"), status.ready ? plan.mode : "not ready");
  const part = shedBesides(plan);
  const shed = part ? ` ${part} of the demand is shed at the door.` : "";
  const ready = status.ready ? "" : "Starting, draining, or a stage has no replica. ";
  say($("reason"), `${ready}${sentence(plan.reason)}${shed}`);
}

function sentence(text) {
  if (!text) return "";
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

function showTiles(status) {
  const [recent, minute, long] = status.windows;
  const { plan, cores, latency_ms: latency, requests, arrivals_per_s: arrivals, slo_ms: slo } = status;
  const outcomes = requests.outcomes;
  const missed = Object.entries(outcomes).filter(([name, number]) => name !== "answered" && number);
  const busy = status.stages.reduce((sum, stage) => sum + stage.busy_cores, 0);
  tile("Answered in time", percent(recent.attainment), mood(recent.attainment), [
    `1 min ${percent(minute.attainment)}`,
    `10 min ${percent(long.attainment)}`,
  ]);
  tile("Arrivals", `${count(arrivals)}/s`, plan.capacity && arrivals > plan.capacity ? "bad" : "", [
    plan.capacity ? `plan carries ${count(plan.capacity)}/s` : "capacity not known",
    `${count(requests.live)} in progress`,
  ]);
  tile("p99 latency", milliseconds(latency.p99), latency.p99 === null ? "" : latency.p99 > slo ? "bad" : "good", [
    `p50 ${milliseconds(latency.p50)}`,
    `objective ${milliseconds(slo)}`,
  ]);
  tile("Accuracy", percent(recent.accuracy), "", [
    `plan ${percent(plan.accuracy)}`,
    `10 min ${percent(long.accuracy)}`,
  ]);
  tile("Cores", `${count(cores.held)} of ${count(cores.total)}`, "", [
    `${count(cores.start)} start, ${count(cores.up)} up, ${count(cores.out)} out`,
    `${busy.toFixed(1)} at work${cores.shared ? ", shared" : ""}`,
  ]);
  tile("Requests", count(requests.arrived), "", [
    `${count(outcomes.answered)} in time`,
    missed.map(([name, number]) => `${count(number)} ${name}`).join(", ") || "none missed",
  ]);
}

/** One figure with its name above and remarks below; made once, then only changed. */
function tile(name, value, feeling, remarks) {
  let found = tiles.get(name);
  if (!found) {
    found = { value: document.createTextNode(""), note: make("small") };
    found.figure = make("dd", {}, found.value, found.note);
    $("tiles").append(make("div", { class: "tile" }, make("dt", {}, name), found.figure));
    tiles.set(name, found);
  }
  found.value.data = value;
  found.figure.className = feeling;
  say(found.note, remarks.join("\n"));
}

function showDoor(refused) {
  $("live").hidden = true;
  $("alert").hidden = true;
  $("mode").hidden = true;
  say($("reason"), "");
  $("door").hidden = false;
  say($("door-text"), refused
    ? "The server does not accept this token. Check it, and try again."
    : "It is kept in this tab only, until the tab is closed.");
  $("token").value = "";
  $("token").focus();
}

function showLost(seconds) {
  const seen = feed.status ? ` What is shown is of ${clock(feed.status.wall_s)}.` : "";
  $("alert").hidden = false;
  say($("alert-text"), `Connection lost.${seen} Trying again every ${duration(seconds)}.`);
  document.body.classList.add("stale");
  if (!feed.status) say($("reason"), "");
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  feed.unlock($("token").value.trim());
});
$("retry").addEventListener("click", () => feed.now());
$("range").addEventListener("change", (event) => plots.zoom(Number(event.target.value)));

feed.now();
