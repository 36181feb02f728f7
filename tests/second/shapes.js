'use strict';
// Shapes of JSON values: each is a function that returns the value, or refuses it.

const { must } = require('./errors.js');
const { TYPE } = require('./strict_json.js');
const basics = require('./basics.js');

const need = (holds, what) => must(holds, TYPE, what);

const when = (test, what) => (value) => {
  need(test(value), what);
  return value;
};

const isText = (value) => typeof value === 'string';
const integer = (least = 0, most = Number.MAX_SAFE_INTEGER) =>
  when((v) => Number.isInteger(v) && v >= least && v <= most, `an integer from ${least}`);
const text = (most = Infinity) =>
  when((v) => isText(v) && [...v].length <= most, `a text of at most ${most} characters`);
const pattern = (expression) => when((v) => isText(v) && expression.test(v), String(expression));
const oneOf = (...values) => when((v) => values.includes(v), `one of ${values.join(', ')}`);
const flag = when((v) => typeof v === 'boolean', 'true or false');
const digest = when((v) => isText(v) && basics.isDigest(v), 'a digest');
const certificateId = when((v) => isText(v) && basics.isCertificateId(v), 'a certificate id');
const name = when((v) => isText(v) && basics.isName(v), 'a name');
const nullOr = (shape) => (value) => (value === null ? null : shape(value));

/** base64 of a number of octets, or of any up to the most: the octets. */
const octets = (length, most = Infinity) => (value) => {
  const found = isText(value) ? basics.base64(value) : null;
  need(found && (length ?? found.length) === found.length && found.length <= most, 'base64');
  return found;
};

const list = (shape, least = 0, most = Infinity) => (value) => {
  need(Array.isArray(value), 'a list');
  need(value.length >= least && value.length <= most, `a list of ${least} to ${most}`);
  return value.map((one) => shape(one));
};

/** The names of a certificate: sorted, none twice, 1 to 100. */
const names = (value) => {
  const found = list(name, 1, 100)(value);
  need(found.every((one, index) => index === 0 || found[index - 1] < one), 'sorted, none twice');
  return found;
};

/** An object with exactly these members; those in `optional` may be missing. */
const members = (shapes, optional = {}) => (value) => {
  need(value !== null && typeof value === 'object' && !Array.isArray(value), 'an object');
  const made = {};
  for (const key of Object.keys(value)) {
    need(Object.hasOwn(shapes, key) || Object.hasOwn(optional, key), `the member ${key} is unknown`);
  }
  for (const [key, shape] of Object.entries({ ...shapes, ...optional })) {
    need(key in value || key in optional, `the member ${key} is missing`);
    if (key in value) made[key] = shape(value[key]);
  }
  return made;
};

module.exports = {
  ...{ need, when, integer, text, pattern, oneOf, flag, digest, certificateId, name, nullOr },
  ...{ octets, list, names, members },
};
