// Which plots there are, and what each of them draws from the history's columns.

const SHORTEST_S = 60;
const CAUSES = ["late", "dropped", "shed", "failed", "cancelled"];
const SHADES = ["100%", "66%", "42%", "26%"]; // the reasons of one outcome are shades of its colour

const PLOTS = [
  {
    name: "rates",
    title: "Arrivals against capacity, requests per second",
    empty: "No second has passed yet.",
    format: (value) => (value === null ? NOTHING : `${count(value)}/s`),
    series: (data) => [
      { label: "answered in time", colour: "var(--answered)", kind: "area", values: data.answered_per_s },
      { label: "arrivals", colour: "var(--ink)", kind: "line", values: data.arrivals_per_s },
      { label: "the plan's capacity", colour: "var(--slo)", kind: "dash", values: data.capacity_per_s },
    ],
  },
  {
    name: "cores",
    title: "Cores by the axis that brought them",
    empty: "No cores are held.",
    format: count,
    series: (data) => [
      { label: "there from the start", colour: "var(--shed)", kind: "area", values: data.cores_start },
      { label: "up", colour: "var(--stage-1)", kind: "area", values: data.cores_up },
      { label: "out", colour: "var(--stage-2)", kind: "area", values: data.cores_out },
      { label: "at work", colour: "var(--ink)", kind: "line", values: data.busy_cores },
    ],
  },
  {
    name: "accuracy",
    title: "Accuracy of the answers in time",
    empty: "Nothing was answered in time.",
    format: percent,
    tick: (value) => `${+(value * 100).toFixed(1)}\u00a0%`,
    ceiling: 1,
    // From a round number below the lowest that is shown, so that a few percent can be seen.
    floor: (data, shown) => {
      const both = shown.flatMap((index) => [data.accuracy[index] ?? 1, data.plan_accuracy[index]]);
      const least = Math.min(1, ...both);
      return least > 0.975 ? 0.95 : least > 0.95 ? 0.9 : least > 0.85 ? 0.8 : least > 0.55 ? 0.5 : 0;
    },
    series: (data) => [
      { label: "mean", colour: "var(--stage-3)", kind: "line", values: data.accuracy },
      { label: "expected of the plan", colour: "var(--quiet)", kind: "dash", values: data.plan_accuracy },
    ],
  },
  {
    name: "latency",
    title: "Latency of the answers, milliseconds",
    empty: "Nothing was answered.",
    format: milliseconds,
    series: (data) => [
      { label: "p99", colour: "var(--accent)", kind: "line", values: data.p99_ms },
      { label: "p50", colour: "var(--quiet)", kind: "line", values: data.p50_ms },
      { label: "the objective", colour: "var(--slo)", kind: "dash", values: data.at_s.map(() => data.slo_ms) },
    ],
  },
  {
    name: "violations",
    title: "Violations by cause, requests per second",
    empty: "None in this time.",
    format: (value) => (value === null ? NOTHING : `${count(value)}/s`),
    series: violations,
  },
];

/** One area per cause that occurs in what is kept, worst causes of each outcome first. */
function violations(data) {
  const total = (values) => values.reduce((sum, value) => sum + value, 0);
  const found = [];
  for (const outcome of CAUSES) {
    Object.entries(data.causes_per_s)
      .filter(([name]) => name.split("/")[0] === outcome)
      .sort(([, a], [, b]) => total(b) - total(a))
      .forEach(([name, values], index) => {
        const reason = name.split("/")[1];
        const shade = SHADES[Math.min(index, SHADES.length - 1)];
        found.push({
          label: reason ? `${outcome}: ${reasonText(reason)}` : outcome,
          colour: `color-mix(in srgb, var(--${outcome}) ${shade}, var(--card))`,
          kind: "area",
          values,
        });
      });
  }
  return found;
}

/** All plots, with one time range and one cursor. */
class Plots {
  constructor(element) {
    this.range = 300;
    this.cursor = null;
    this.data = null;
    this.plots = PLOTS.map((plot) => new TimePlot(plot, (at) => this.move(at)));
    element.append(...this.plots.map((plot) => plot.element));
    new ResizeObserver(() => this.draw()).observe(element);
  }

  show(data) {
    this.data = data;
    this.draw();
  }

  zoom(seconds) {
    this.range = seconds;
    this.draw();
  }

  move(at) {
    this.cursor = at;
    this.draw();
  }

  draw() {
    if (!this.data) return;
    const to = this.data.at_s.at(-1) ?? Date.now() / 1000;
    // A server that is younger than the range fills the plots with what there is.
    const from = Math.max(to - this.range, Math.min(to - SHORTEST_S, (this.data.at_s[0] ?? to) - 1));
    const cursor = this.cursor !== null && this.cursor < from ? null : this.cursor;
    for (const plot of this.plots) plot.draw(this.data, from, to, cursor);
  }
}
