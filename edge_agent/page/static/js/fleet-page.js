// The table of devices, its bar, and what is asked of the devices.
import * as commands from "./commands.js";
import { matches, tally } from "./columns.js";
import { Detail } from "./detail.js";
import { $, el, put } from "./dom.js";
import { Fleet } from "./fleet.js";
import { Frames } from "./frame.js";
import { Inbox } from "./inbox.js";
import * as messages from "./messages.js";
import { Table } from "./table.js";
import * as topics from "./topics.js";

const TICK_MS = 1_000;

export class FleetPage {
  constructor(settings) {
    this.settings = settings;
    this.fleet = new Fleet();
    this.commands = new commands.Commands();
    this.inbox = new Inbox();
    this.state = "";
    this.looked = false; // the open device has something new
    this.chips = "";
    this.frames = new Frames((enough) => this.#work(enough));
    this.table = new Table(this.fleet, {
      onOpen: (id) => this.open(id),
      onCommand: (id, type) => this.ask(id, type, {}),
      answerOf: (id) => this.#answer(id),
      ask: () => this.frames.ask(),
    });
    this.detail = new Detail(this.fleet, this.commands, {
      onCommand: (id, type, args) => this.ask(id, type, args),
      onClose: (id) => {
        this.table.mark(null);
        this.table.focus(id);
      },
    });
    $("fleet").hidden = false;
    $("filter").addEventListener("input", () => this.#filter());
    $("control").addEventListener("change", (event) => this.#control(event.target.checked));
    addEventListener("keydown", (event) => this.#slash(event));
    setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
  }

  get filters() {
    return topics.ofFleet(this.settings.prefix);
  }

  get keepalive() {
    return 90; // a hidden tab is woken once a minute only
  }

  use(link) {
    this.link = link;
  }

  message(topic, payload) {
    this.inbox.put(topic, payload);
    this.frames.ask();
  }

  /** `state`: of the link. */
  linkState(state) {
    put($("link-text"), { online: "Live", connecting: "Connecting…", lost: "Not connected", refused: "Refused", taken: "Paused" }[state.name]);
    $("link").dataset.link = state.name;
    const banner = $("banner");
    banner.hidden = state.name !== "lost";
    if (state.name === "lost") put(banner, `Connection lost: ${state.why}. What you see is old; trying again by itself.`);
  }

  open(id) {
    this.detail.open(id);
    this.table.mark(id);
    this.looked = true;
    this.frames.ask();
  }

  ask(device, type, args) {
    if (document.body.dataset.control !== "on") return;
    const now = Date.now();
    const id = commands.uuid(crypto.getRandomValues(new Uint8Array(16)));
    this.commands.sent(id, device, type, now);
    const text = JSON.stringify(commands.body(id, type, args, now));
    this.link.publish(topics.command(this.settings.prefix, device), text, commands.LIFE_MS / 1000, (problem) => {
      if (problem) this.#changed(this.commands.delivered(id, problem, Date.now()));
    });
    this.#changed(this.commands.asked.get(id));
  }

  #work(enough) {
    const now = Date.now();
    const more = this.inbox.drain((topic, payload) => this.#take(topic, payload, now), enough);
    if (this.table.draw(now)) this.#counts();
    if (this.detail.id !== null && this.looked) {
      this.looked = false;
      this.detail.draw(now);
    }
    return more;
  }

  #take(topic, payload, now) {
    const found = topics.parse(this.settings.prefix, topic);
    if (!found) return;
    if (found.suffix === "answer") {
      const answer = messages.answer(messages.decode(payload));
      if (answer) this.#changed(this.commands.answered(found.device, answer, now));
      return;
    }
    const changed = this.fleet.apply(found.device, found.suffix, payload, now);
    if (!changed) return;
    if (found.suffix !== "transcript/partial") this.table.touch(found.device);
    if (found.device === this.detail.id) this.looked = true;
  }

  #changed(ask) {
    if (!ask) return;
    this.table.touch(ask.device);
    this.looked = true;
    put($("spoken"), `${ask.type} ${ask.state} ${ask.detail}`);
    this.frames.ask();
  }

  #answer(id) {
    const ask = this.commands.of(id)[0];
    return ask ? { state: ask.state, text: `${ask.type}: ${ask.state}${ask.detail ? ` (${ask.detail})` : ""}` } : { state: "", text: "" };
  }

  #filter() {
    this.table.filter($("filter").value, this.state);
  }

  #control(on) {
    document.body.dataset.control = on ? "on" : "off";
    put($("control-text"), on ? "Control on" : "Read only");
    this.table.touchAll();
    this.frames.ask();
  }

  /** "/" goes to the filter. */
  #slash(event) {
    if (event.key !== "/" || /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName)) return;
    event.preventDefault();
    $("filter").focus();
  }

  /** Once a second: counts, gauges that grow old, late answers. */
  #tick() {
    const now = Date.now();
    this.table.touchAll();
    for (const ask of this.commands.overdue(now)) this.#changed(ask);
    this.#counts();
    this.looked = this.detail.id !== null;
    this.frames.ask();
  }

  /** How many there are, and how many are shown. */
  #counts() {
    this.#chips();
    const { size } = this.fleet.devices;
    $("empty").hidden = size > 0;
    const shown = this.table.order.length;
    const beyond = this.fleet.turnedAway ? `; more than ${this.fleet.limits.devices} devices: the rest is not shown` : "";
    const skipped = this.inbox.skipped ? `; ${this.inbox.skipped} messages skipped` : "";
    put($("count"), `${shown} of ${size} device${size === 1 ? "" : "s"}${shown < size ? " shown" : ""}${beyond}${skipped}`);
  }

  #chips() {
    const found = [...this.fleet.devices.values()].filter((device) => matches(device, this.table.words, ""));
    const counts = tally(found, this.state);
    const wanted = counts.map(([state, count]) => `${state} ${count}`).join() + this.state;
    if (wanted === this.chips) return;
    this.chips = wanted;
    const had = document.activeElement?.dataset?.chip;
    const chips = counts.map(([state, count]) => {
      const chip = el("button", { type: "button", className: "chip", "data-chip": state, "aria-pressed": String(state === this.state) },
        el("span", { className: "state", "data-state": state }, state), ` ${count}`);
      chip.addEventListener("click", () => {
        this.state = this.state === state ? "" : state;
        this.#filter();
        this.#chips();
      });
      return chip;
    });
    $("chips").replaceChildren(...chips);
    if (had) chips.find((chip) => chip.dataset.chip === had)?.focus();
  }
}
