// JSON with its numbers as they are written. A page's number has 53 bits and one spelling; a document's may be any whole
// number of 64 bits, and `1.0` is not spelled `1`.

/** The members of an event, or of an answer, that hold what somebody has published. */
export const EXACT = ['rock', 'wave'];

/** A number that a page's own would change: its text. */
export class Numeral {
  /** @param {string} text As JSON spells it. */
  constructor(text) {
    this.text = text;
    Object.freeze(this);
  }

  toString() {
    return this.text;
  }

  valueOf() {
    return Number(this.text);
  }
}

/** @param {string} text As JSON spells it. @returns {number|Numeral} */
export const numberOf = (text) => (String(Number(text)) === text ? Number(text) : new Numeral(text));

/** @param {any} value @returns {boolean} Whether it has members. */
export const hasMembers = (value) => value !== null && typeof value === 'object' && !(value instanceof Numeral);

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;
/** @type {[string, any][]} */
const WORDS = [['null', null], ['true', true], ['false', false]];

/**
 * The value of a text.
 * @param {string} text @param {string[]|null} exact In which members of the object the numbers are exact; null: everywhere.
 * @returns {any}
 */
export function parse(text, exact = null) {
  let at = 0;
  const broken = () => new SyntaxError(`this is not JSON at character ${at}`);
  const space = () => {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
  };
  const take = (/** @type {string} */ sign) => {
    if (text[at] !== sign) return false;
    at += 1;
    space();
    return true;
  };
  const need = (/** @type {string} */ sign) => {
    if (!take(sign)) throw broken();
  };
  const string = () => {
    let end = at + 1;
    while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
    const parsed = JSON.parse(text.slice(at, end + 1));
    at = end + 1;
    space();
    return parsed;
  };
  /** @param {boolean} whole Whether numbers are exact. @param {boolean} top @returns {any} */
  const value = (whole, top) => {
    if (text[at] === '"') return string();
    if (take('[')) {
      /** @type {any[]} */
      const list = [];
      if (take(']')) return list;
      do list.push(value(whole, false)); while (take(','));
      need(']');
      return list;
    }
    if (take('{')) {
      const object = {};
      if (take('}')) return object;
      do {
        if (text[at] !== '"') throw broken();
        const name = string();
        need(':');
        setMember(object, name, value(whole || (top && exact !== null && exact.includes(name)), false));
      } while (take(','));
      need('}');
      return object;
    }
    NUMBER.lastIndex = at;
    const found = NUMBER.exec(text);
    if (found) {
      at = NUMBER.lastIndex;
      space();
      return whole ? numberOf(found[0]) : Number(found[0]);
    }
    for (const [word, meant] of WORDS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        space();
        return meant;
      }
    }
    throw broken();
  };
  space();
  const parsed = value(exact === null, true);
  if (at < text.length) throw broken();
  return parsed;
}

/** The text of a value, without spaces. @param {any} value @returns {string} */
export function stringify(value) {
  if (value instanceof Numeral) return value.text;
  if (Array.isArray(value)) return `[${value.map(stringify).join(',')}]`;
  if (!hasMembers(value)) return JSON.stringify(value);
  return `{${Object.keys(value).map((name) => `${JSON.stringify(name)}:${stringify(value[name])}`).join(',')}}`;
}

/** A copy that shares nothing that can change. @param {any} value @returns {any} */
export function clone(value) {
  if (Array.isArray(value)) return value.map(clone);
  if (!hasMembers(value)) return value;
  const copy = {};
  for (const name of Object.keys(value)) setMember(copy, name, clone(value[name]));
  return copy;
}

/** A plain assignment to `__proto__` would not make a member. @param {object} object @param {string} name @param {any} value */
export function setMember(object, name, value) {
  Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
}
