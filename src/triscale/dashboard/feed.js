// Asks the server once a second, keeps what it said of the last ten minutes, and says when it cannot be reached.

const EVERY_MS = 1000;
const LONGEST_MS = 10000;
const TIMEOUT_MS = 5000;
const KEPT = 600; // samples, as many as the server keeps
const TOKEN = "triscale-token";

class Locked extends Error {}

class Feed {
  /** `onData(feed)`, `onLocked(refused)` when a token is needed, `onLost(seconds until the next try)`. */
  constructor({ onData, onLocked, onLost }) {
    Object.assign(this, { onData, onLocked, onLost });
    this.failures = 0;
    this.running = false;
    this.forget();
    document.addEventListener("visibilitychange", () => this.now());
    window.addEventListener("online", () => this.now());
  }

  forget() {
    this.startedAt = null;
    this.last = 0;
    this.history = { at_s: [], causes_per_s: {}, stages: {} };
    this.decisions = [];
    this.lastDecision = 0;
  }

  /** Ask now, and then every second. */
  now() {
    clearTimeout(this.timer);
    if (document.hidden || this.running) return; // a page that nobody sees asks for nothing
    this.running = true;
    this.ask().finally(() => {
      this.running = false;
    });
  }

  async ask() {
    let delay = EVERY_MS;
    try {
      await this.update();
      this.failures = 0;
      this.onData(this);
    } catch (error) {
      if (error instanceof Locked) {
        const refused = sessionStorage.getItem(TOKEN) !== null;
        sessionStorage.removeItem(TOKEN);
        this.onLocked(refused);
        return; // until somebody gives a token
      }
      delay = Math.min(LONGEST_MS, EVERY_MS * 2 ** this.failures);
      this.failures += 1;
      this.onLost(delay / 1000, error);
    }
    this.timer = setTimeout(() => this.now(), delay);
  }

  async update() {
    const status = await this.get("triscale/status");
    if (status.started_s !== this.startedAt) this.forget(); // another server: its numbers began anew
    this.startedAt = status.started_s;
    this.status = status;
    const news = await this.get(`triscale/history?since=${this.last}`);
    this.last = news.last;
    this.history = joined(this.history, news, status.slo_ms);
    if (status.decisions_total !== this.lastDecision) {
      const made = await this.get(`triscale/decisions?since=${this.lastDecision}`);
      this.decisions = [...this.decisions, ...made.decisions].slice(-1000);
      this.lastDecision = made.last;
    }
  }

  async get(path) {
    const token = sessionStorage.getItem(TOKEN);
    const response = await fetch(path, {
      cache: "no-store",
      headers: token === null ? {} : { Authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (response.status === 401) throw new Locked();
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return response.json();
  }

  unlock(token) {
    sessionStorage.setItem(TOKEN, token);
    this.now();
  }
}

/** Columns with newer ones behind them. A cause that one side does not know did not occur there. */
function joined(old, news, slo) {
  const length = old.at_s.length;
  const column = (before, after) => [...before, ...after].slice(-KEPT);
  const result = { slo_ms: slo, causes_per_s: {}, stages: {} };
  for (const [name, values] of Object.entries(news)) {
    if (Array.isArray(values)) result[name] = column(old[name] ?? [], values);
  }
  for (const [stage, { queued }] of Object.entries(news.stages)) {
    result.stages[stage] = { queued: column(old.stages[stage]?.queued ?? [], queued) };
  }
  for (const name of new Set([...Object.keys(old.causes_per_s), ...Object.keys(news.causes_per_s)])) {
    const before = old.causes_per_s[name] ?? Array(length).fill(0);
    const values = column(before, news.causes_per_s[name] ?? Array(news.at_s.length).fill(0));
    if (values.some((value) => value > 0)) result.causes_per_s[name] = values;
  }
  return result;
}
