// Live captions on a screen that nobody touches.
import { Captions } from "./captions.js";
import { $, el, put } from "./dom.js";
import { Frames } from "./frame.js";
import { span } from "./format.js";
import { Inbox } from "./inbox.js";
import * as messages from "./messages.js";
import { name } from "./text.js";
import * as topics from "./topics.js";

const TICK_MS = 1_000;
/** A loss that is mended at once needs no words on the screen. */
const BANNER_MS = 1_000;

export class CaptionPage {
  constructor(settings) {
    this.settings = settings;
    this.captions = new Captions();
    this.inbox = new Inbox();
    this.frames = new Frames((enough) => this.#work(enough));
    this.states = new Map();
    this.lines = new Map(); // key -> element
    this.open = new Map(); // lane -> element
    this.lostAt = 0;
    this.why = "";
    document.body.classList.add("captioning");
    document.documentElement.style.setProperty("--caption-scale", String(settings.size));
    $("captions").hidden = false;
    put($("caption-wait"), settings.device ? `Waiting for ${name(settings.device)} to speak` : "Waiting for words");
    setInterval(() => this.#tick(), TICK_MS);
    stayAwake();
  }

  get filters() {
    return topics.ofCaptions(this.settings.prefix, this.settings.device);
  }

  get keepalive() {
    return 15; // a dead link is noticed within half a minute
  }

  use() {}

  message(topic, payload) {
    this.inbox.put(topic, payload);
    this.frames.ask();
  }

  linkState(state) {
    if (state.name === "online") this.lostAt = 0;
    else if (!this.lostAt) this.lostAt = Date.now();
    this.why = { lost: state.why, taken: "another screen uses the same login" }[state.name] ?? this.why;
    this.#notes();
  }

  #work(enough) {
    const now = Date.now();
    let changed = false;
    const more = this.inbox.drain((topic, payload) => {
      changed = this.#take(topic, payload, now) || changed;
    }, enough);
    if (changed) this.#draw();
    return more;
  }

  #take(topic, payload, now) {
    const found = topics.parse(this.settings.prefix, topic);
    if (!found) return false;
    const body = messages.decode(payload);
    const { device, suffix } = found;
    if (suffix === "status") return this.#status(device, messages.status(body));
    if (suffix === "gap") {
      const gap = messages.gap(body);
      return gap !== null && this.captions.gap(device, gap);
    }
    const kind = suffix.split("/")[1];
    const words = suffix.startsWith("transcript/") ? messages.transcript(body, kind) : null;
    if (words === null) return false;
    return kind === "final" ? this.captions.final(device, words) : this.captions.partial(device, words, now);
  }

  #status(device, status) {
    if (status && (this.states.has(device) || this.states.size < 1000)) this.states.set(device, status.state);
    this.#notes();
    return false;
  }

  #draw() {
    const { captions } = this;
    const kept = new Set();
    const roll = $("roll");
    let at = roll.firstElementChild;
    for (const line of captions.ended) {
      kept.add(line.key);
      const element = this.lines.get(line.key) ?? this.#line(line);
      put(element.firstChild, line.missed ? `${line.missed} not received` : "");
      if (element === at) at = at.nextElementSibling;
      else roll.insertBefore(element, at);
    }
    for (const [key, element] of this.lines) {
      if (kept.has(key)) continue;
      element.remove();
      this.lines.delete(key);
    }
    this.#openLines();
    $("caption-wait").hidden = captions.ended.length + captions.open.size > 0;
  }

  #line(line) {
    const missed = el("span", { className: "missed" });
    const text = line.gap
      ? el("span", { className: "gap" }, `${span(line.gap.duration / 1000)} not heard (${line.gap.cause})`)
      : el("p", { dir: "auto", lang: line.language || null }, ...this.#who(line), line.text);
    const element = el("div", { className: "line", "data-id": line.id }, missed, text);
    this.lines.set(line.key, element);
    return element;
  }

  #who(line) {
    const parts = [];
    if (!this.settings.device) parts.push(name(line.device));
    if (this.captions.several(line.device)) parts.push(`channel ${line.channel + 1}`);
    return parts.length ? [el("bdi", { className: "who" }, parts.join(" · "))] : [];
  }

  #openLines() {
    const box = $("open");
    for (const [lane, element] of this.open) {
      if (this.captions.open.has(lane)) continue;
      element.remove();
      this.open.delete(lane);
    }
    for (const [lane, line] of this.captions.open) {
      const element = this.open.get(lane) ?? this.#openLine(lane, box);
      const split = line.stable || line.tail;
      put(element.stable, line.stable);
      put(element.tail, split ? line.tail : line.text);
      if (element.lang !== line.language) element.lang = line.language;
      put(element.who, this.#who(line)[0]?.textContent ?? "");
    }
  }

  #openLine(lane, box) {
    const element = el("p", { dir: "auto", className: "line" });
    element.who = el("bdi", { className: "who" });
    element.stable = el("span", { className: "stable" });
    element.tail = el("span", { className: "tail" });
    element.append(element.who, element.stable, element.tail);
    box.append(element);
    this.open.set(lane, element);
    return element;
  }

  #tick() {
    if (this.captions.expire(Date.now())) this.#draw();
    this.#notes();
  }

  #notes() {
    const lost = this.lostAt > 0 && Date.now() - this.lostAt >= BANNER_MS;
    const banner = $("caption-banner");
    banner.hidden = !lost;
    put(banner, lost ? `Captions are interrupted${this.why ? `: ${this.why}` : ""}` : "");
    const state = this.states.get(this.settings.device);
    const said = { muted: "Microphone muted", offline: "Device offline", stopped: "Device stopped" }[state] ?? "";
    put($("caption-note"), lost ? "" : said);
  }
}

/** Screens of kiosks go dark otherwise; browsers give this on pages with TLS or on this machine only. */
function stayAwake() {
  const ask = async () => {
    try {
      if (document.visibilityState === "visible") await navigator.wakeLock?.request("screen");
    } catch {
      // refused, for example on a low battery: the kiosk's own settings decide then
    }
  };
  document.addEventListener("visibilitychange", ask);
  ask();
}
