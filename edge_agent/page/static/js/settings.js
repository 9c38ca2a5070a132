// settings.json and the page's address -> what to show and where to connect. Pure.
import { isDevice, isPrefix } from "./topics.js";

export const LOOPBACK = new Set(["127.0.0.1", "localhost", "[::1]"]);

/** A websocket address without credentials; null when it is none. */
export function broker(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  if (!["ws:", "wss:"].includes(url.protocol) || !url.hostname || url.username || url.password || url.hash) return null;
  return url;
}

/**
 * {broker, prefix, device, caption, size, locked, problem}: `problem` is a sentence for the reader, or "".
 * @param given what settings.json holds
 * @param location the page's address
 */
export function read(given, location) {
  const query = new URLSearchParams(location.search);
  const settings = {
    broker: "",
    prefix: isPrefix(given?.prefix) ? given.prefix : "edge",
    device: query.get("device") ?? "",
    caption: ["1", "true", "yes"].includes(query.get("caption") ?? ""),
    size: Math.min(4, Math.max(0.25, Number(query.get("size")) || 1)),
    locked: given?.locked === true,
    problem: "",
  };
  if (settings.device && !isDevice(settings.device)) {
    settings.problem = "The address names no possible device: ?device= takes 1 to 64 characters without / + # $.";
    settings.device = "";
  }
  return { ...settings, ...address(given?.broker, query.get("broker"), settings.locked, location) };
}

function address(configured, wished, locked, location) {
  const own = typeof configured === "string" && configured ? broker(configured) : null;
  if (own && LOOPBACK.has(own.hostname) && !LOOPBACK.has(location.hostname)) own.hostname = location.hostname;
  const ours = own ? shown(own) : "";
  if (wished === null) return checked(ours, location);
  const other = broker(wished);
  if (!other) return { broker: ours, problem: "The address names no broker: ?broker= takes ws://host:port or wss://host:port." };
  if (locked && shown(other) !== ours) {
    return { broker: ours, problem: `This page is served for ${ours || "no broker"} only; ?broker= was left aside.` };
  }
  return checked(shown(other), location);
}

function checked(text, location) {
  const mixed = location.protocol === "https:" && text.startsWith("ws:") && !LOOPBACK.has(new URL(text).hostname);
  return mixed
    ? { broker: text, problem: "A page with TLS may not use a broker without it: give a wss:// address." }
    : { broker: text };
}

/** As people write it: without the slash at the end. */
export function shown(url) {
  return url.pathname === "/" && !url.search ? url.href.replace(/\/$/, "") : url.href;
}
