// Figures in words, as the reports and the terminal write them, and the one way in which this page makes elements.

const NOTHING = "\u2013"; // stands where there is no figure

/** Reason -> what it means, from the server's own wording. */
const WORDS = JSON.parse(document.getElementById("words").textContent);

/** 1234 -> "1,234"; below 100 one decimal where there is a fraction. */
function count(number) {
  if (number === null || number === undefined) return NOTHING;
  const digits = number < 100 && !Number.isInteger(number) ? 1 : 0;
  return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** 0.9312 -> "93.1 %". Only all is 100 %, and only nothing is 0 %. */
function percent(share) {
  if (share === null || share === undefined) return NOTHING;
  if (share === 0 || share === 1) return `${share * 100}\u00a0%`;
  return `${Math.min(Math.max(share * 100, 0.1), 99.9).toFixed(1)}\u00a0%`;
}

/** What part of the demand is shed, unless nothing is or the reason says it: nobody wants to read it twice. */
function shedBesides({ served_fraction: served, reason }) {
  const part = percent(1 - served);
  return served < 1 && !reason.includes(part.replace("\u00a0", " ")) ? part : "";
}

/** 612.4 -> "612 ms"; below 10 ms with a decimal. */
function milliseconds(value) {
  if (value === null || value === undefined) return NOTHING;
  return `${value < 10 ? value.toFixed(1) : count(Math.round(value))}\u00a0ms`;
}

/** 3725 -> "1 h 2 min"; the two largest units. */
function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(0, parts.findIndex(([size]) => seconds >= size));
  let rest = Math.max(0, Math.floor(seconds));
  const words = [];
  for (const [size, unit] of seconds < 1 ? parts.slice(3) : parts.slice(first, first + 2)) {
    const whole = Math.floor(rest / size);
    rest -= whole * size;
    if (whole || !words.length) words.push(`${whole}\u00a0${unit}`);
  }
  return words.join(" ");
}

/** Unix seconds -> the local time of day, with seconds or without. */
function clock(at, seconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(seconds && { second: "2-digit" }) };
  return new Date(at * 1000).toLocaleTimeString("en", options);
}

/** A reason's code in words; "late" and codes that are not known as they are. */
function reasonText(reason) {
  return WORDS[reason] ?? reason.replaceAll("_", " ");
}

/** "1 item", "2 items". */
function plural(number, one) {
  return `${count(number)} ${one}${number === 1 ? "" : "s"}`;
}

/** An element with attributes and children. Texts become text nodes: nothing that is shown is ever parsed as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The same for a drawing. */
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set an element's text, if it is another: text that does not change can be selected. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
