// One device beside the table: why it is in its state, its history, its last words, what it was told.
import { Commands } from "./commands.js";
import { $, el, put } from "./dom.js";
import { Fleet } from "./fleet.js";
import * as format from "./format.js";
import { sparkline, summary } from "./sparkline.js";

/** Buttons and what they ask for. */
const BUTTONS = [
  ["Mute", "mute", {}],
  ["Mute for 10 min", "mute", { duration_s: 600 }],
  ["Unmute", "unmute", {}],
  ["Self-test", "self_test", {}],
];

export class Detail {
  /** `onCommand(id, type, args)`, `onClose(id)` */
  constructor(fleet, commands, { onCommand, onClose }) {
    Object.assign(this, { fleet, commands, onClose });
    this.id = null;
    this.panel = $("detail");
    $("detail-close").addEventListener("click", () => this.close());
    addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    const buttons = BUTTONS.map(([label, type, args]) => {
      const button = el("button", { type: "button" }, label);
      button.addEventListener("click", () => onCommand(this.id, type, args));
      return button;
    });
    $("detail-buttons").replaceChildren(...buttons);
  }

  open(id) {
    this.id = id;
    this.panel.hidden = false;
    document.body.dataset.detail = "on";
    this.panel.scrollTop = 0;
    $("detail-close").focus();
  }

  close() {
    if (this.id === null) return;
    const id = this.id;
    this.id = null;
    this.panel.hidden = true;
    delete document.body.dataset.detail;
    this.onClose(id);
  }

  draw(now) {
    const device = this.id === null ? null : this.fleet.devices.get(this.id);
    if (!device) {
      this.close();
      return;
    }
    put($("detail-name"), device.label);
    const state = $("detail-state");
    put(state, device.state);
    state.dataset.state = device.state;
    put($("detail-since"), device.since === null ? "" : `since ${format.clock(device.since, now)}`);
    this.#list($("detail-reasons"), device.reasons.map((reason) => el("li", {}, reason)));
    this.#facts(device, now);
    this.#history(device);
    this.#words(device, now);
    this.#answers(now);
    $("detail-caption").href = `?${new URLSearchParams({ device: device.id, caption: "1", ...carried() })}`;
  }

  #facts(device, now) {
    const { info, health } = device;
    const facts = [
      ["Site", device.site],
      ["Profile", info?.profile],
      ["Engine", info?.engine],
      ["Model", info?.model],
      ["Hardware", info?.hardware],
      ["Version", info?.version],
      ["Running for", health ? format.span(health.uptime) : ""],
      ["Memory", health?.memory ? `${Math.round(health.memory)} MB` : ""],
      ["Finals since start", health?.finals === null || !health ? "" : format.count(health.finals)],
      ["Load", health?.step === "normal" ? "" : health?.step],
      ["Gauges", Fleet.stale(device, now) ? `old: of ${format.clock(device.healthAt, now)}` : ""],
    ].filter(([, value]) => value && value !== format.UNKNOWN);
    this.#list($("detail-facts"), facts.flatMap(([key, value]) => [el("dt", {}, key), el("dd", { dir: "auto" }, value)]));
    const why = [...(info?.profileReasons ?? []), ...(info?.engineNotes ?? [])];
    $("detail-why").hidden = why.length === 0;
    this.#list($("detail-why-list"), why.map((reason) => el("li", {}, reason)));
  }

  #history(device) {
    const column = (index) => device.gauges.map((point) => [point[0], point[index]]);
    const charts = [
      ["Latency of finals", device.latencies, format.milliseconds],
      ["Latency p95", column(1), format.milliseconds],
      ["Real-time factor", column(2), format.factor],
      ["Temperature", column(3), format.celsius],
    ].filter(([, points]) => points.some(([, value]) => value !== null));
    const figures = charts.map(([label, points, show]) => {
      const said = summary(points, show);
      const chart = points.length > 1 ? sparkline(points, `${label}: ${said}`) : null;
      return el("figure", {}, el("figcaption", {}, el("b", {}, label), ` ${said}`), chart);
    });
    this.#list($("detail-history"), figures.length ? figures : [el("p", { className: "quiet" }, "Nothing measured yet.")]);
  }

  #words(device, now) {
    const lines = [...device.transcripts].reverse().map((one) => {
      const time = el("time", {}, format.clock(one.start ?? one.at, now));
      const text = one.isGap
        ? el("span", { className: "quiet" }, `gap of ${format.milliseconds(one.duration)}: ${one.cause}`)
        : el("span", { dir: "auto", lang: one.language || null }, one.text);
      return el("li", {}, time, text);
    });
    if (device.partial) {
      const { stable, tail, text, language } = device.partial;
      const open = el("span", { dir: "auto", lang: language || null }, stable, el("i", {}, stable || tail ? tail : text));
      lines.unshift(el("li", { className: "open" }, el("time", {}, "now"), open));
    }
    this.#list($("detail-words"), lines.length ? lines : [el("li", { className: "quiet" }, "Nothing heard since this page was opened.")]);
  }

  #answers(now) {
    const lines = this.commands.of(this.id).slice(0, 8).map((ask) => {
      const state = el("span", { className: "answer", "data-answer": ask.state, "data-ended": Commands.ended(ask) }, ask.state);
      return el("li", {}, el("time", {}, format.clock(ask.at, now)), el("b", {}, ask.type.replace("_", "-")), state, el("span", { dir: "auto" }, ask.detail));
    });
    this.#list($("detail-answers"), lines);
  }

  #list(parent, children) {
    parent.replaceChildren(...children);
  }
}

/** What of this page's address holds for the caption screen too. */
function carried() {
  const broker = new URLSearchParams(location.search).get("broker");
  return broker ? { broker } : {};
}
