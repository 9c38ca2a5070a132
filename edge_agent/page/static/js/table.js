// The table of devices: only the rows in sight exist, so a thousand cost no more than thirty.
import { COLUMNS, filterWords, matches, ranked, sorted, windowOf } from "./columns.js";
import { $, el } from "./dom.js";
import { Row } from "./row.js";

/** Rows that jump while one reads are worse than an order that is a second old. */
const RESORT_MS = 1_000;
const ROW_REM = 2.5; // as in the style sheet
const KEYS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

export class Table {
  /** `onOpen(id)`: chosen; `onCommand(id, type)`: a row's button; `answerOf(id)`: {state, text}; `ask()`: a frame. */
  constructor(fleet, { onOpen, onCommand, answerOf, ask }) {
    Object.assign(this, { fleet, onOpen, onCommand, answerOf, ask });
    this.rows = new Map(); // id -> Row, those in sight
    this.dirty = new Set();
    this.order = []; // devices that the filter lets through
    this.key = "state";
    this.descending = false;
    this.words = [];
    this.state = "";
    this.current = ""; // the row that Tab leads to
    this.open = null;
    this.names = 0; // devices whose names are ranked
    this.stale = true; // the order may be wrong
    this.sortAt = 0;
    this.moved = true; // other rows may be in sight
    this.scroll = $("scroll");
    this.body = $("rows");
    this.rowPx = ROW_REM * parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.#head();
    this.#events();
  }

  touch(id) {
    this.stale = true;
    if (this.rows.has(id)) this.dirty.add(id);
  }

  touchAll() {
    for (const id of this.rows.keys()) this.dirty.add(id);
  }

  filter(text, state) {
    this.words = filterWords(text);
    this.state = state;
    this.sortAt = 0;
    this.stale = true;
    this.ask();
  }

  /** Write what changed; true when the order was made anew. */
  draw(now) {
    const due = this.stale && now - this.sortAt >= RESORT_MS;
    if (due) this.#sort(now);
    if (this.moved) this.#mount();
    for (const id of this.dirty) {
      const device = this.fleet.devices.get(id);
      if (device) this.rows.get(id)?.write(device, now, this.answerOf);
    }
    this.dirty.clear();
    return due;
  }

  /** Mark the row of the device that is open; null: none. */
  mark(id) {
    this.rows.get(this.open)?.mark(false);
    this.open = id;
    this.rows.get(id)?.mark(true);
  }

  focus(id) {
    const index = this.order.findIndex((device) => device.id === id);
    if (index >= 0) this.#focus(index);
  }

  #events() {
    this.body.addEventListener("click", (event) => this.#clicked(event));
    this.body.addEventListener("keydown", (event) => this.#pressed(event));
    const look = () => {
      this.moved = true;
      this.ask();
    };
    this.scroll.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(this.scroll);
  }

  #head() {
    const cells = COLUMNS.map((column) => {
      const button = el("button", { type: "button", title: column.title ?? null }, column.label);
      button.addEventListener("click", () => this.#by(column));
      return el("th", { role: "columnheader", scope: "col", className: `c-${column.key}`, "data-key": column.key }, button);
    });
    cells.push(el("th", { role: "columnheader", scope: "col", className: "c-actions" }, "Commands"));
    $("head").replaceChildren(...cells);
    this.#arrows();
  }

  #by(column) {
    this.descending = this.key === column.key ? !this.descending : Boolean(column.number);
    this.key = column.key;
    this.#arrows();
    this.sortAt = 0;
    this.stale = true;
    this.draw(Date.now());
  }

  #arrows() {
    for (const cell of $("head").children) {
      const sort = cell.dataset.key !== this.key ? "none" : this.descending ? "descending" : "ascending";
      if (cell.dataset.key) cell.setAttribute("aria-sort", sort);
    }
  }

  #sort(now) {
    const { devices } = this.fleet;
    if (this.names !== this.fleet.changes) {
      ranked(devices.values());
      this.names = this.fleet.changes;
    }
    const chosen = [...devices.values()].filter((device) => matches(device, this.words, this.state));
    this.order = sorted(chosen, this.key, this.descending);
    this.body.style.height = `${this.order.length * this.rowPx}px`;
    $("table").setAttribute("aria-rowcount", String(this.order.length + 1));
    this.stale = false;
    this.sortAt = now;
    this.moved = true;
  }

  /** Make the rows in sight exist, in their order, and let the others go; but never the one with the focus. */
  #mount() {
    this.moved = false;
    const [from, to] = windowOf(this.scroll.scrollTop, this.scroll.clientHeight, this.rowPx, this.order.length);
    const shown = this.order.slice(from, to);
    const wanted = new Set(shown.map((device) => device.id));
    for (const [id, row] of this.rows) {
      if (wanted.has(id) || (row.element.contains(document.activeElement) && this.fleet.devices.has(id))) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    let at = this.body.firstElementChild;
    shown.forEach((device, i) => {
      const row = this.rows.get(device.id) ?? this.#make(device.id);
      row.place(from + i, this.rowPx);
      if (row.element === at) at = at.nextElementSibling;
      else this.body.insertBefore(row.element, at);
    });
    this.#tabStop(this.rows.has(this.current) ? this.current : shown[0]?.id);
  }

  #make(id) {
    const row = new Row(id);
    row.mark(id === this.open);
    this.rows.set(id, row);
    this.dirty.add(id);
    return row;
  }

  #tabStop(id) {
    this.rows.get(this.current)?.stop(false);
    this.current = id ?? "";
    this.rows.get(this.current)?.stop(true);
  }

  #clicked(event) {
    const row = event.target.closest("tr");
    if (!row) return;
    const command = event.target.closest("button[data-command]");
    if (command) this.onCommand(row.deviceId, command.dataset.command);
    else if (!event.target.closest(".c-actions")) {
      this.#tabStop(row.deviceId);
      this.onOpen(row.deviceId);
    }
  }

  /** Arrows, page and end keys go from row to row; Tab leaves the table. */
  #pressed(event) {
    const step = KEYS[event.key];
    if (step === undefined || !event.target.classList.contains("device")) return;
    event.preventDefault();
    const id = event.target.closest("tr").deviceId;
    const at = this.order.findIndex((device) => device.id === id);
    this.#focus(Math.min(this.order.length - 1, Math.max(0, at + step)));
  }

  #focus(index) {
    const device = this.order[index];
    if (!device) return;
    const top = index * this.rowPx;
    const room = this.scroll.clientHeight - $("head").offsetHeight - this.rowPx;
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (top > this.scroll.scrollTop + room) this.scroll.scrollTop = top - room;
    this.#mount();
    this.draw(Date.now());
    this.#tabStop(device.id);
    this.rows.get(device.id)?.button.focus({ preventScroll: true });
  }
}
