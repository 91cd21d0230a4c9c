// The pipeline as a graph: a card per stage, laid out in layers, with edges from each stage to those that it feeds.

const SPARK = 60; // seconds of queue that a card shows
const NARROW = window.matchMedia("(max-width: 760px)");

class Graph {
  constructor(element) {
    this.element = element;
    this.cards = new Map(); // stage -> StageCard
    this.edges = draw("svg", { "aria-hidden": "true" });
    new ResizeObserver(() => this.connect()).observe(element);
    NARROW.addEventListener("change", () => this.connect());
  }

  show(status, history) {
    const names = status.stages.map((stage) => stage.name).join("\n");
    if (names !== this.names) this.build(status);
    this.names = names;
    for (const stage of status.stages) this.cards.get(stage.name).show(stage, status, history.stages[stage.name]);
  }

  /** Cards in layers: a stage stands one column behind the last of those that feed it. */
  build({ stages }) {
    const depth = new Map();
    for (const { name, after } of stages) depth.set(name, Math.max(-1, ...after.map((other) => depth.get(other))) + 1);
    this.stages = stages.map(({ name, after }) => ({ name, after }));
    this.cards = new Map(stages.map((stage) => [stage.name, new StageCard(stage.name)]));
    const layers = [];
    for (const { name } of stages) {
      const layer = (layers[depth.get(name)] ??= make("div", { class: "layer" }));
      layer.append(this.cards.get(name).element);
    }
    this.element.replaceChildren(this.edges, ...layers);
    for (const card of this.cards.values()) new ResizeObserver(() => this.connect()).observe(card.element);
  }

  /** Draw the edges to where the cards are. */
  connect() {
    if (!this.stages) return;
    const origin = this.element.getBoundingClientRect();
    const box = (name) => {
      const found = this.cards.get(name).element.getBoundingClientRect();
      const [left, top] = [found.left - origin.left + this.element.scrollLeft, found.top - origin.top];
      return { left, top, right: left + found.width, bottom: top + found.height, middle: top + found.height / 2 };
    };
    const paths = this.stages.flatMap(({ name, after }) =>
      after.map((parent) => (NARROW.matches ? rail : curve)(box(parent), box(name))));
    this.edges.style.width = `${this.element.scrollWidth}px`;
    this.edges.replaceChildren(...paths.map((d) => draw("path", { d })));
  }
}

function curve(from, to) {
  const half = (from.right + to.left) / 2;
  return `M${from.right} ${from.middle}C${half} ${from.middle} ${half} ${to.middle} ${to.left} ${to.middle}`;
}

function rail(from, to) {
  return `M${from.left} ${from.middle}H${from.left - 12}V${to.top + 28}H${to.left}`;
}

/** What one stage is doing. */
class StageCard {
  constructor(name) {
    const id = `stage-${name}`;
    this.attained = make("span", { class: "attained", title: "requests of the last 10 s not lost at this stage" });
    this.from = make("p", { class: "from" });
    this.values = {};
    this.bars = {};
    this.figures = make("dl");
    this.spark = draw("path");
    const box = { class: "spark", viewBox: `0 0 ${SPARK} 20`, preserveAspectRatio: "none", "aria-hidden": "true" };
    for (const figure of ["queue", "cores", "batches", "replicas"]) {
      this.values[figure] = make("span");
      const value = make("dd", {}, this.values[figure]);
      if (figure === "queue") value.append(draw("svg", box, this.spark));
      if (figure === "cores") value.append(this.bar("open", "busy"));
      this.figures.append(make("dt", {}, figure), value);
    }
    this.variants = make("ul", { class: "variants", "aria-label": `variants of ${name}` });
    this.lost = make("p", { class: "lost" });
    const header = make("header", {}, make("h3", { id }, name), this.attained);
    const parts = [header, this.from, this.figures, this.variants, this.lost];
    this.element = make("article", { class: "stage", "data-stage": name, "aria-labelledby": id }, ...parts);
  }

  bar(...kinds) {
    const bar = make("div", { class: "bar", "aria-hidden": "true" });
    for (const kind of kinds) bar.append((this.bars[kind] = make("i", { class: kind })));
    return bar;
  }

  show(stage, status, { queued }) {
    const { lanes, queue_ms: queue, service_ms: service, attainment } = stage;
    say(this.attained, percent(attainment));
    this.attained.className = `attained ${mood(attainment)}`;
    say(this.from, origin(stage, status));
    say(this.values.queue, `${plural(stage.queued, "item")}, wait p99 ${milliseconds(queue.p99)}`);
    this.spark.setAttribute("d", sparkPath(queued.slice(-SPARK)));
    say(this.values.cores, coresText(stage, status.cores.shared));
    const most = Math.max(lanes.cores_wanted, lanes.cores_granted, 1);
    this.bars.open.style.width = `${(100 * lanes.cores_granted) / most}%`;
    this.bars.busy.style.width = `${Math.min(100, (100 * stage.busy_cores) / most)}%`;
    const pace = `${count(stage.items_per_s)} items/s`;
    say(this.values.batches, `${pace}, p50 ${milliseconds(service.p50)}, p99 ${milliseconds(service.p99)}`);
    const phases = Object.entries(stage.replicas).filter(([phase, number]) => number || phase === "ready");
    say(this.values.replicas, phases.map(([phase, number]) => `${number} ${phase}`).join(", "));
    this.showVariants(stage.variants);
    const lost = Object.entries(stage.recent_given_up).map(([why, number]) => `${count(number)} ${reasonText(why)}`);
    say(this.lost, lost.length ? `Items given up in 10 s: ${lost.join("; ")}.` : "");
    this.lost.hidden = !lost.length;
  }

  showVariants(variants) {
    const used = variants.filter(({ share, mix }) => share > 0 || mix > 0);
    const key = used.map(({ name }) => name).join("\n");
    if (key !== this.key) {
      this.rows = used.map(({ name }) => {
        const row = { fill: make("i"), mark: make("b"), parts: make("span", { class: "parts" }) };
        const bar = make("div", { class: "bar", "aria-hidden": "true" }, row.fill, row.mark);
        row.element = make("li", {}, make("span", { class: "called", title: name }, name), row.parts, bar);
        return row;
      });
      this.rest = make("li", { class: "rest" });
      this.variants.replaceChildren(...this.rows.map((row) => row.element), this.rest);
      this.key = key;
    }
    used.forEach(({ share, mix, accuracy }, index) => {
      const row = this.rows[index];
      row.fill.style.width = `${100 * (mix ?? 0)}%`;
      row.mark.style.left = `${100 * share}%`;
      row.mark.hidden = share === 0;
      const now = mix === null ? "no items" : percent(mix);
      say(row.parts, `${now}, planned ${percent(share)}`);
      row.element.title = `accuracy ${percent(accuracy)}`;
    });
    const idle = variants.filter(({ share, mix, resident }) => resident && !(share > 0 || mix > 0)).length;
    say(this.rest, idle ? `${idle} more resident` : "");
    this.rest.hidden = !idle;
  }
}

function mood(share) {
  if (share === null) return "";
  return share >= 0.99 ? "good" : share < 0.95 ? "bad" : "";
}

/** "3.1 at work of 6 shared, 8 wanted": on average, what it may use, and what the plan wants, if that is another. */
function coresText({ busy_cores: busy, lanes: { cores_wanted: wanted, cores_granted: held } }, shared) {
  const more = wanted === held ? "" : `, ${wanted} wanted`;
  return `${busy.toFixed(1)} at work of ${held}${shared ? " shared" : ""}${more}`;
}

/** Queue lengths of the last minute as an area, the newest at the right; at least ten items high. */
function sparkPath(values) {
  const most = Math.max(10, ...values);
  const height = (value) => (20 - (19 * value) / most).toFixed(1);
  const steps = values.map((value, index) => `L${SPARK - values.length + index} ${height(value)}h1`);
  return `M${SPARK - values.length} 20${steps.join("")}V20Z`;
}

/** Where a stage's items come from: "17.8 items from each of detect". */
function origin({ name, after }, { stages }) {
  if (!after.length) return "one item per request, or per row of it";
  const parents = after.map((parent) => {
    const emitted = stages.find((stage) => stage.name === parent).emits[name];
    return `${emitted.toFixed(emitted < 10 ? 2 : 1)} per item of ${parent}`;
  });
  return parents.join(", ");
}
