// The list of decisions: when, in which mode, why, and what changed, the newest first.

const FEW = 20;

class Decisions {
  constructor(element, text, more) {
    Object.assign(this, { element, text, more, shown: FEW, rows: new Map() });
    more.addEventListener("click", () => {
      this.shown = Infinity;
      this.show(this.decisions, this.status);
    });
  }

  show(decisions, status) {
    this.decisions = decisions;
    this.status = status;
    say(this.text, this.introduction(decisions, status));
    const first = Math.max(0, decisions.length - this.shown);
    const rows = decisions.slice(first).map((each, index) => this.row(each, decisions[first + index - 1])).reverse();
    const same = rows.length === this.element.children.length
      && rows.every((row, index) => row === this.element.children[index]);
    if (!same) this.element.replaceChildren(...rows);
    this.more.hidden = first === 0;
    say(this.more, `Show ${count(first)} more`);
  }

  introduction(decisions, { policy, decisions_total: total }) {
    if (policy === "static") return "The plan is fixed: policy static decides nothing while it serves.";
    if (!decisions.length) return `Policy ${policy} has not changed the plan yet.`;
    const kept = total > decisions.length ? `; the last ${count(decisions.length)} are here` : "";
    return `${plural(total, "change")} of plan by policy ${policy}${kept}.`;
  }

  row(decision, before) {
    let row = this.rows.get(decision.number);
    if (!row) {
      const mode = make("span", { class: `mode ${decision.mode}` }, decision.mode);
      const at = new Date(decision.wall_s * 1000).toISOString();
      row = make(
        "li", { value: decision.number },
        make("time", { datetime: at }, clock(decision.wall_s)),
        make("span", {}, mode),
        make("div", {}, make("p", {}, decision.reason || "no reason given"), ...changes(decision, before)),
      );
      this.rows.set(decision.number, row);
    }
    return row;
  }

  forget() {
    this.rows.clear();
    this.shown = FEW;
  }
}

/** What a decision changed, before and after, and what it was made from. The mix of variants, if it is another. */
function changes(decision, before) {
  const moved = [];
  if (decision.cores !== decision.cores_before) {
    moved.push(`cores ${count(decision.cores_before)} \u2192 ${count(decision.cores)}`);
  }
  if (decision.accuracy !== decision.accuracy_before) {
    moved.push(`accuracy ${percent(decision.accuracy_before)} \u2192 ${percent(decision.accuracy)}`);
  }
  const part = shedBesides(decision);
  if (part) moved.push(`${part} of the demand shed`);
  const mixes = Object.entries(decision.variants).map(([stage, shares]) => {
    const parts = Object.entries(shares).map(([name, share]) => (share < 0.9995 ? `${name} ${percent(share)}` : name));
    return `${stage}: ${parts.join(", ")}`;
  });
  const same = before && JSON.stringify(before.variants) === JSON.stringify(decision.variants);
  const seen = `From ${count(decision.arrivals)} arrivals/s and ${plural(decision.queued, "queued item")}`;
  const took = `decided in ${milliseconds(decision.decide_s * 1000)}`;
  const kept = `${plural(decision.cores, "core")}, accuracy ${percent(decision.accuracy)}, as before`;
  return [
    make("p", { class: "change" }, moved.join("; ") || kept),
    ...(same ? [] : [make("p", { class: "change" }, mixes.join("; "))]),
    make("p", { class: "from" }, `${seen}, ${took}.`),
  ];
}
