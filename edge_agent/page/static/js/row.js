// One row of the table: made once, then touched only where its text differs.
import { COLUMNS } from "./columns.js";
import { el, put, set } from "./dom.js";
import { Fleet } from "./fleet.js";

export class Row {
  constructor(id) {
    this.button = el("button", { type: "button", className: "device", tabindex: "-1" });
    this.state = el("span", { className: "state" });
    this.cells = COLUMNS.map((column) => el("td", { role: "cell", className: `c-${column.key}` }));
    this.cells[0].append(el("bdi", {}, this.button));
    this.cells[1].append(this.state);
    this.actions = el("td", { role: "cell", className: "c-actions" });
    this.element = el("tr", { role: "row" }, ...this.cells, this.actions);
    this.element.deviceId = id;
    this.index = -1;
  }

  place(index, heightPx) {
    if (index === this.index) return;
    this.index = index;
    this.element.style.transform = `translateY(${index * heightPx}px)`;
    this.element.setAttribute("aria-rowindex", String(index + 2)); // the head is the first
  }

  /** Whether Tab stops here. */
  stop(here) {
    this.button.tabIndex = here ? 0 : -1;
  }

  /** Whether its device is open beside the table. */
  mark(open) {
    set(this.element, "aria-current", open ? "true" : "");
  }

  write(device, now, answerOf) {
    COLUMNS.forEach((column, i) => {
      put(i === 0 ? this.button : i === 1 ? this.state : this.cells[i], column.text(device, now));
    });
    set(this.state, "data-state", device.state);
    set(this.element, "data-stale", Fleet.stale(device, now) ? "1" : "");
    set(this.cells[1], "title", device.reasons.join("; "));
    set(this.cells[3], "title", device.info?.model ?? "");
    if (document.body.dataset.control === "on") this.#buttons(device, answerOf(device.id));
  }

  #buttons(device, { state, text }) {
    if (!this.actions.firstChild) {
      this.mute = el("button", { type: "button", className: "small" });
      this.answer = el("span", { className: "answer" });
      this.actions.append(
        this.mute, el("button", { type: "button", className: "small", "data-command": "self_test" }, "Self-test"), this.answer,
      );
    }
    const muted = device.state === "muted";
    put(this.mute, muted ? "Unmute" : "Mute");
    set(this.mute, "data-command", muted ? "unmute" : "mute");
    put(this.answer, text);
    set(this.answer, "data-answer", state);
    set(this.answer, "title", text);
  }
}
