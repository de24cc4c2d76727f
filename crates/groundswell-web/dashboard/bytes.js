// Keys and values are any bytes. Here they get from the wire to text that a person can read, and back.
// A key is held as a byte string, one character (U+0000 to U+00FF) a byte: it compares in the order of its bytes, and
// serves as the key of a map.

const encoder = new TextEncoder();
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const ASCII = /^[\0-\x7f]*$/;
// Characters that would be invisible, or would turn the text around them: C0, C1, marks of direction, separators.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** @param {Uint8Array} bytes @returns {string} A byte string. */
export function byteString(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}

/** @param {string} byteText @returns {Uint8Array} */
export function bytesOf(byteText) {
  return Uint8Array.from(byteText, (char) => char.charCodeAt(0));
}

/** @param {string} text @returns {string} The byte string of its UTF-8. */
export function utf8(text) {
  return ASCII.test(text) ? text : byteString(encoder.encode(text));
}

/** @param {Uint8Array} bytes @returns {string|null} Null where it is no UTF-8. */
export function textOf(bytes) {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

/** The key of an event or an entry. @param {{key?: string, key_base64?: string}} event @returns {string} A byte string. */
export function keyOf(event) {
  return event.key_base64 === undefined ? utf8(event.key ?? '') : atob(event.key_base64);
}

/** @param {string} byteText @returns {string} `00 ff 7f` */
export function hex(byteText) {
  return Array.from(byteText, (char) => char.charCodeAt(0).toString(16).padStart(2, '0')).join(' ');
}

/** @param {string} text Digits in pairs, with spaces or without. @returns {Uint8Array|null} Null where it is no hex. */
export function parseHex(text) {
  const digits = text.replace(/\s+/g, '');
  if (digits.length % 2 || /[^0-9a-f]/i.test(digits)) return null;
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
}

/** As a query's value. @param {string} byteText @returns {string} */
export function percent(byteText) {
  return byteText.replace(/[^A-Za-z0-9\-._~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

/** With everything that could not be seen made visible. @param {string} text @returns {string} */
export function printable(text) {
  return text.replace(UNSEEN, (char) => {
    const code = char.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `\\u{${code.toString(16)}}`;
  });
}

/** @param {number} size In bytes. @returns {string} */
export function sizeWords(size) {
  if (size < 1024) return `${size} byte${size === 1 ? '' : 's'}`;
  return size < 1024 * 1024 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1024 / 1024).toFixed(1)} MiB`;
}
