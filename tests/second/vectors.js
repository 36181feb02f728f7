'use strict';
// The vector files of docs/FORMAT.md ("Vectors"): lines of `name: value`, a blank line, octets.

const fs = require('node:fs');
const path = require('node:path');

/** Read one file: its folder, its name, its header fields, and the octets behind the blank line. */
function readVector(file) {
  const octets = fs.readFileSync(file);
  const end = octets.indexOf('\n\n');
  if (end < 0) throw new Error(`${file}: no blank line`);
  const fields = {};
  for (const line of octets.subarray(0, end).toString('utf8').split('\n')) {
    const colon = line.indexOf(': ');
    const name = colon < 0 ? line.replace(/:$/, '') : line.slice(0, colon);
    if (!/^[a-z][a-z0-9-]*$/.test(name)) throw new Error(`${file}: not a field: ${line}`);
    if (name in fields) throw new Error(`${file}: ${name} stands twice`);
    fields[name] = colon < 0 ? '' : line.slice(colon + 2);
  }
  if (!fields.expect || !fields.comment) throw new Error(`${file}: no expect, or no comment`);
  const folder = path.dirname(file);
  return { file, folder, name: path.basename(file), fields, octets: octets.subarray(end + 2) };
}

/** The vectors of each folder, by name; what has an extension (a root, a program) is none. */
function readAll(root) {
  const kinds = new Map();
  for (const entry of fs.readdirSync(root, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith('_')) continue;
    const folder = path.join(root, entry.name);
    const names = fs.readdirSync(folder).filter((name) => !name.includes('.')).sort();
    kinds.set(entry.name, names.map((name) => readVector(path.join(folder, name))));
  }
  return kinds;
}

module.exports = { readAll, readVector };
