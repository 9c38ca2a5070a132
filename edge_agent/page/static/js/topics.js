// Topic names as the contract has them: PREFIX/DEVICE/up/... and PREFIX/DEVICE/down/command. Pure.

const SUFFIXES = new Set(["status", "info", "health", "transcript/final", "transcript/partial", "gap", "answer"]);

/** Whether a name can stand for one device in a topic. */
export function isDevice(value) {
  return typeof value === "string" && value.length > 0 && value.length <= 64 && !/[/+#$\u0000-\u001f\u007f]/u.test(value);
}

/** Whether a prefix can begin a topic. */
export function isPrefix(value) {
  return (
    typeof value === "string" && value.length <= 256 && !value.startsWith("$") &&
    !/[+#\u0000-\u001f]/u.test(value) && value.split("/").every((level) => level !== "")
  );
}

/** {device, suffix} of a topic that this page reads; null for every other one. */
export function parse(prefix, topic) {
  if (!topic.startsWith(`${prefix}/`)) return null;
  const rest = topic.slice(prefix.length + 1);
  const at = rest.indexOf("/up/");
  if (at < 1) return null;
  const device = rest.slice(0, at);
  const suffix = rest.slice(at + 4);
  return device.includes("/") || device.length > 256 || !SUFFIXES.has(suffix) ? null : { device, suffix };
}

/** What the table subscribes to: everything the devices say. */
export function ofFleet(prefix) {
  return [`${prefix}/+/up/#`];
}

/** What captions subscribe to; device "" means all of them. */
export function ofCaptions(prefix, device) {
  const up = `${prefix}/${device || "+"}/up`;
  return [`${up}/transcript/+`, `${up}/gap`, `${up}/status`];
}

export function command(prefix, device) {
  return `${prefix}/${device}/down/command`;
}
