// Elements with text in them. There is no way from a string to markup here, and the page's policy has none either.

/** An element with attributes (`className` too) and children: strings become text. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "className") element.className = value;
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Change text only where it differs: untouched nodes cost no layout. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const $ = (id) => document.getElementById(id);

/** Likewise an attribute; "" takes it away. */
export function set(element, key, value) {
  if ((element.getAttribute(key) ?? "") === value) return;
  if (value) element.setAttribute(key, value);
  else element.removeAttribute(key);
}
