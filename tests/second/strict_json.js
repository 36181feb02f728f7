'use strict';
// JSON as docs/FORMAT.md, section 1 has it. JSON.parse takes the last of two members, rounds
// numbers and replaces broken UTF-8, so this reads the octets itself.

const { must } = require('./errors.js');

const TYPE = 'malformed'; // callers rename it: see errors.under
const DEEPEST = 16;
const ESCAPES = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  need(holds, reason) {
    must(holds, TYPE, `${reason}, at character ${this.at}`);
  }

  space() {
    while (' \t\n\r'.includes(this.text[this.at] ?? '-')) this.at += 1;
  }

  take(word) {
    const there = this.text.startsWith(word, this.at);
    if (there) this.at += word.length;
    return there;
  }

  value(depth) {
    this.space();
    const next = this.text[this.at];
    if (next === '{') return this.object(depth + 1);
    if (next === '[') return this.array(depth + 1);
    if (next === '"') return this.string();
    for (const [word, value] of [['true', true], ['false', false], ['null', null]]) {
      if (this.take(word)) return value;
    }
    return this.number();
  }

  number() {
    const found = /^-?(?:0|[1-9][0-9]*)(?![0-9.eE])/.exec(this.text.slice(this.at, this.at + 40));
    this.need(found, 'not a value, or a number that is not an integer');
    const value = Number(found[0]);
    this.need(Number.isSafeInteger(value), 'a number beyond 2^53');
    this.at += found[0].length;
    return value === 0 ? 0 : value;
  }

  string() {
    let made = '';
    this.at += 1;
    for (;;) {
      const next = this.text[this.at];
      this.need(next !== undefined && next >= ' ', 'a string that does not end');
      this.at += 1;
      if (next === '"') break;
      made += next === '\\' ? this.escape() : next;
    }
    this.need(!made.includes('\0'), 'NUL');
    this.need(!/[\ud800-\udfff]/u.test(made), 'a lone surrogate');
    return made;
  }

  escape() {
    const kind = this.text[this.at];
    this.at += 1;
    if (kind !== 'u') {
      this.need(Object.hasOwn(ESCAPES, kind ?? ''), 'an unknown escape');
      return ESCAPES[kind];
    }
    const digits = this.text.slice(this.at, this.at + 4);
    this.need(/^[0-9a-fA-F]{4}$/.test(digits), 'a broken escape');
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  array(depth) {
    this.need(depth <= DEEPEST, 'nested too deep');
    const made = [];
    this.at += 1;
    this.space();
    if (this.take(']')) return made;
    do {
      made.push(this.value(depth));
      this.space();
    } while (this.take(','));
    this.need(this.take(']'), 'a list that does not end');
    return made;
  }

  object(depth) {
    this.need(depth <= DEEPEST, 'nested too deep');
    const made = Object.create(null);
    this.at += 1;
    this.space();
    if (this.take('}')) return made;
    do {
      this.space();
      this.need(this.text[this.at] === '"', 'no member name');
      const name = this.string();
      this.need(!(name in made), `the member ${name} stands twice`);
      this.space();
      this.need(this.take(':'), 'no colon');
      made[name] = this.value(depth);
      this.space();
    } while (this.take(','));
    this.need(this.take('}'), 'an object that does not end');
    return made;
  }
}

/** Read one object from octets; refuses with `malformed`. */
function read(octets) {
  let text;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(octets);
  } catch {
    must(false, TYPE, 'not UTF-8');
  }
  const reader = new Reader(text);
  reader.space();
  reader.need(text[reader.at] === '{', 'not an object');
  const value = reader.object(1);
  reader.space();
  reader.need(reader.at === text.length, 'something behind the object');
  return value;
}

/** Write a value: members sorted, no white space. */
function write(value) {
  return Buffer.from(text(value), 'utf8');
}

function text(value) {
  if (Array.isArray(value)) return `[${value.map(text).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.keys(value).sort();
  return `{${members.map((name) => `${JSON.stringify(name)}:${text(value[name])}`).join(',')}}`;
}

module.exports = { TYPE, read, write };
