// One plot over time: lines and stacked areas on a common axis, drawn as SVG in the page's colours.

const PLOT_HEIGHT = 190;
const PLOT_TOP = 8;
const PLOT_BOTTOM = 24; // room for the names of the times
const PLOT_LEFT = 46; // and for those of the values
const GAP_S = 5; // samples that lie further apart are not joined

/** Round numbers from 0, or about `low`, to at least `high`, with about `most` steps. */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * (1 - 1e-9));
  const found = [];
  for (let index = Math.floor(low / step + 1e-9); found.length < 20; index += 1) {
    found.push(index * step);
    if (index * step >= high - 1e-9) break;
  }
  return found;
}

/** A whole step of time, in seconds, whose names of so many pixels do not touch along `width` pixels of `span`. */
function timeStep(span, width) {
  const room = (step) => (width * step) / span - (step < 60 ? 76 : 56);
  return [5, 10, 15, 30, 60, 120, 300].find((step) => room(step) >= 0) ?? 600;
}

/** A number at an axis, with the decimals that it needs. */
function round(value) {
  return value.toLocaleString("en", { maximumFractionDigits: 2 });
}

class TimePlot {
  /**
   * `series(data)` says what to draw: [{key, label, colour, kind: "line" | "dash" | "area", values}]; areas are stacked
   * in their order. `format` writes a value in the legend, `tick` one at the axis. `floor(data)` is the lowest value
   * of the axis, by default 0; `ceiling` the highest that it ever needs to show.
   */
  constructor({ name, title, series, format, tick = round, floor = () => 0, ceiling = Infinity, empty }, onCursor) {
    Object.assign(this, { series, format, tick, floor, ceiling });
    this.legend = make("ul", { class: "legend" });
    this.empty = make("p", { class: "empty", hidden: "" }, empty);
    this.svg = draw("svg", { "aria-hidden": "true", height: PLOT_HEIGHT });
    this.canvas = make("div", { class: "canvas" }, this.svg);
    const id = `plot-${name}`;
    this.moment = make("span", { class: "moment", hidden: "" });
    const caption = make("div", { class: "caption" }, make("h3", { id }, title), this.moment);
    const figure = { id: name, tabindex: "0", "aria-labelledby": id };
    this.element = make("figure", figure, caption, this.legend, this.empty, this.canvas);
    this.canvas.addEventListener("pointermove", (event) => onCursor(this.timeAt(event.clientX)));
    this.canvas.addEventListener("pointerleave", () => onCursor(null));
    this.element.addEventListener("keydown", (event) => this.onKey(event, onCursor));
    this.element.addEventListener("blur", () => onCursor(null));
  }

  /** The time at a horizontal position of the window. */
  timeAt(clientX) {
    const box = this.svg.getBoundingClientRect();
    const part = (clientX - box.left - PLOT_LEFT) / Math.max(1, box.width - PLOT_LEFT);
    return this.from + Math.min(1, Math.max(0, part)) * (this.to - this.from);
  }

  /** Arrow keys move the cursor by a second, with Shift by ten; Escape takes it away. */
  onKey(event, onCursor) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") onCursor(null);
    if (!step) return;
    event.preventDefault();
    const at = (this.cursor ?? this.to) + step * (event.shiftKey ? 10 : 1);
    onCursor(Math.min(this.to, Math.max(this.from, at)));
  }

  /** Draw `data` (columns, with `at_s`) between two times; values are told at `cursor`, or of the latest sample. */
  draw(data, from, to, cursor) {
    Object.assign(this, { from, to, cursor });
    const first = data.at_s.findIndex((at) => at >= from);
    const series = first < 0 ? [] : this.series(data);
    const shown = first < 0 ? [] : data.at_s.map((_, index) => index).slice(first);
    const some = series.some((each) => shown.some((index) => each.values[index] !== null));
    this.empty.hidden = some;
    this.canvas.hidden = !some;
    this.tell(data, series, cursor);
    if (!some) return;
    const width = this.canvas.clientWidth || 600;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${PLOT_HEIGHT}`);
    const stack = stacked(series, shown);
    const peak = shown.reduce((most, index) => series.reduce((top, each) =>
      Math.max(top, each.kind === "area" ? stack.top[index] : each.values[index] ?? 0), most), 0);
    const low = this.floor(data, shown);
    const levels = ticks(low, Math.min(this.ceiling, Math.max(peak, low + 1e-3)), 4);
    const scale = {
      x: (at) => PLOT_LEFT + ((at - from) / (to - from)) * (width - PLOT_LEFT),
      y: (value) => PLOT_HEIGHT - PLOT_BOTTOM
        - ((value - levels[0]) / (levels.at(-1) - levels[0])) * (PLOT_HEIGHT - PLOT_BOTTOM - PLOT_TOP),
    };
    this.svg.replaceChildren(
      ...this.axes(levels, scale, width),
      ...series.map((each) => shape(each, data.at_s, shown, scale, stack)),
      ...(cursor === null ? [] : [draw("line", {
        class: "cursor", x1: scale.x(cursor), x2: scale.x(cursor), y1: PLOT_TOP, y2: PLOT_HEIGHT - PLOT_BOTTOM,
      })]),
    );
  }

  axes(levels, scale, width) {
    const marks = [];
    for (const level of levels) {
      const y = scale.y(level);
      marks.push(draw("line", { class: "grid", x1: PLOT_LEFT, x2: width, y1: y, y2: y }));
      marks.push(draw("text", { x: PLOT_LEFT - 8, y: y + 4, "text-anchor": "end" }, this.tick(level)));
    }
    const step = timeStep(this.to - this.from, width - PLOT_LEFT);
    // Whole steps of the clock on the wall here, whatever the time zone.
    const zone = new Date().getTimezoneOffset() * 60;
    for (let at = Math.ceil((this.from - zone) / step) * step + zone; at <= this.to; at += step) {
      const x = scale.x(at);
      const half = step < 60 ? 30 : 20;
      if (x + half > width) break;
      marks.push(draw("text", { x, y: PLOT_HEIGHT - 6, "text-anchor": "middle" }, clock(at, step < 60)));
    }
    return marks;
  }

  /** The legend: names of what is drawn with their values at the cursor, or now. */
  tell(data, series, cursor) {
    let index = data.at_s.length - 1;
    if (cursor !== null) index = Math.max(0, data.at_s.findIndex((at) => at >= cursor));
    while (this.legend.children.length > series.length) this.legend.lastChild.remove();
    series.forEach((each, position) => {
      let entry = this.legend.children[position];
      if (!entry) {
        entry = make("li", {}, make("i"), make("span"), make("b"));
        this.legend.append(entry);
      }
      const [key, label, value] = entry.children;
      key.className = each.kind;
      key.style.setProperty("--key", each.colour);
      say(label, each.label);
      say(value, this.format(each.values[index] ?? null));
    });
    this.moment.hidden = cursor === null || !series.length;
    if (!this.moment.hidden) say(this.moment, clock(data.at_s[index]));
  }
}

/** The bottom and top of each stacked area at each shown sample, and the top of all. */
function stacked(series, shown) {
  const stack = { top: {}, bottoms: new Map(), tops: new Map() };
  for (const index of shown) stack.top[index] = 0;
  for (const each of series.filter(({ kind }) => kind === "area")) {
    const bottoms = {};
    const tops = {};
    for (const index of shown) {
      bottoms[index] = stack.top[index];
      tops[index] = stack.top[index] += each.values[index] ?? 0;
    }
    stack.bottoms.set(each, bottoms);
    stack.tops.set(each, tops);
  }
  return stack;
}

/** One series: areas and dashes hold their value over the second that each sample covers, lines join samples. */
function shape(each, times, shown, scale, stack) {
  const path = each.kind === "area" ? areaPath(each, times, shown, scale, stack) : linePath(each, times, shown, scale);
  const found = draw("path", { class: each.kind, d: path });
  found.style.setProperty("--key", each.colour);
  return found;
}

function linePath({ kind, values }, times, shown, scale) {
  let path = "";
  let joined = false;
  let before = 0;
  for (const index of shown) {
    const value = values[index];
    joined = joined && times[index] - before < GAP_S;
    if (value === null || value === undefined) {
      joined = false;
      continue;
    }
    const [x, y] = [scale.x(times[index]).toFixed(1), scale.y(value).toFixed(1)];
    if (kind === "dash") {
      path += joined ? `V${y}H${x}` : `M${scale.x(times[index] - 1).toFixed(1)} ${y}H${x}`;
    } else {
      // A sample on its own is a dot: a line of hardly any length, with round ends.
      const next = values[index + 1];
      const alone = !joined && (next === null || next === undefined);
      path += `${joined ? "L" : "M"}${x} ${y}${alone ? "h0.1" : ""}`;
    }
    joined = true;
    before = times[index];
  }
  return path;
}

function areaPath(each, times, shown, scale, stack) {
  const upper = [];
  const lower = [];
  for (const index of shown) {
    const left = scale.x(Math.max(times[index] - 1, shown[0] === index ? times[index] - 1 : times[index - 1]));
    const right = scale.x(times[index]);
    const top = scale.y(stack.tops.get(each)[index]).toFixed(1);
    const bottom = scale.y(stack.bottoms.get(each)[index]).toFixed(1);
    upper.push(`${Math.max(PLOT_LEFT, left).toFixed(1)} ${top}`, `${right.toFixed(1)} ${top}`);
    lower.unshift(`${right.toFixed(1)} ${bottom}`, `${Math.max(PLOT_LEFT, left).toFixed(1)} ${bottom}`);
  }
  return `M${[...upper, ...lower].join("L")}Z`;
}
