'use strict';
// Check 8 of docs/FORMAT.md, rule by rule.

const der = require('./der.js');
const keys = require('./keys.js');
const x509 = require('./x509.js');
const { must, under } = require('./errors.js');

const UNTRUSTED = 'bundle/untrusted-chain';
const [SERVER_AUTH, ANY_USAGE] = ['1.3.6.1.5.5.7.3.1', '2.5.29.37.0'];
const { ID } = x509;
const KNOWN = new Set([ID.keyUsage, ID.names, ID.basic, ID.nameConstraints, ID.usage]);
const trust = (holds, reason) => must(holds, UNTRUSTED, reason);

/**
 * Refuse a chain that breaks a rule, or that leads to none of the roots of a set.
 *
 * chain: parsed certificates, leaf first; rootSets: lists of parsed certificates; now: seconds.
 */
function checkChain(chain, rootSets, now) {
  const leafKey = keys.certificateKey(chain[0].spki); // rule 1
  under(UNTRUSTED, () => {
    const facts = chain.map(read);
    order(chain);
    chain.forEach((one) => trust(x509.signatureScheme(one.algorithm), 'a signature algorithm')); // 4
    const time = Math.max(now, chain[0].begins);
    checkLeaf(chain[0], facts[0]);
    chain.slice(1).forEach((one, index) => {
      checkIssuer(one, facts[index + 1], time, index, facts.slice(0, index + 1));
    });
    rootSets.forEach((roots) => leads(chain, facts, roots, time));
  });
  return leafKey;
}

/** What the rules ask of a certificate's extensions, read once. */
function read(one) {
  const get = (id) => one.extensions.get(id);
  const basic = get(ID.basic) && basicConstraints(get(ID.basic).octets);
  const usages = get(ID.usage) && der.inside(der.only(get(ID.usage).octets)).map(der.oid);
  const usage = get(ID.keyUsage) && der.only(get(ID.keyUsage).octets, der.BITS);
  const names = get(ID.names) ? x509.generalNames(get(ID.names).octets) : [];
  const limits = get(ID.nameConstraints) && nameConstraints(get(ID.nameConstraints).octets);
  const signs = usage ? der.namedBit(usage, 5) : null;
  const dns = names.filter((one) => one.kind === 'dns').map((one) => one.text);
  return { basic, usages, signs, dns, limits };
}

function basicConstraints(octets) {
  const parts = der.inside(der.only(octets));
  const ca = parts[0]?.tag === der.BOOLEAN ? der.boolean(parts.shift()) : false;
  const length = parts.length ? Number(der.integer(parts.shift())) : null;
  der.need(parts.length === 0 && (length === null || length >= 0), 'broken basicConstraints');
  return { ca, length };
}

function nameConstraints(octets) {
  const found = { permitted: [], excluded: [], directory: false };
  for (const part of der.inside(der.only(octets))) {
    const trees = { 0xa0: found.permitted, 0xa1: found.excluded }[part.tag];
    der.need(trees, 'broken nameConstraints');
    for (const tree of der.several(part.content)) {
      const [base] = der.inside(tree);
      if (base.tag === 0x82) trees.push(base.content.toString('latin1').toLowerCase());
      if (base.tag === 0xa4) found.directory = true;
    }
  }
  return found;
}

// Rules 2 and 3: each next one issued the one before, and nothing signed itself.
function order(chain) {
  chain.forEach((one, index) => {
    trust(!issued(one, one), 'a self-signed certificate');
    trust(index === 0 || issued(chain[index], chain[index - 1]), 'not the issuer of the one before');
  });
}

function issued(issuer, one) {
  if (!one.issuer.equals(issuer.subject)) return false;
  let key;
  try {
    key = keys.readPublic(issuer.spki).object;
  } catch {
    return false;
  }
  return x509.signedBy(x509.signatureScheme(one.algorithm), one.tbs, one.signature, key);
}

function critical(one, id) {
  return one.extensions.get(id)?.critical === true;
}

// Rule 8: a critical extension that nobody here knows.
function knownExtensions(one) {
  for (const [id, { critical: isCritical }] of one.extensions) {
    trust(!isCritical || KNOWN.has(id), `the critical extension ${id}`);
  }
}

function checkLeaf(leaf, facts) {
  trust(facts.usages?.includes(SERVER_AUTH), 'a leaf without serverAuth');
  trust(facts.dns.length > 0, 'a leaf without a DNS name');
  trust(!facts.basic?.ca, 'a leaf that is a CA');
  trust(!facts.signs, 'a leaf with keyCertSign');
  trust(!leaf.extensions.has(ID.nameConstraints), 'a leaf with nameConstraints');
  knownExtensions(leaf);
}

/** Rules 4, 5, 7 and 8 for an issuer, or a root; `below`: facts of all certificates below it. */
function checkIssuer(one, facts, time, intermediates, below) {
  keys.issuerKey(one.spki);
  trust(one.begins <= time && time <= one.ends, 'an issuer that is not valid now');
  trust(facts.basic?.ca && critical(one, ID.basic), 'an issuer that is not a CA, critically');
  trust(facts.signs, 'an issuer without keyCertSign');
  if (facts.usages) {
    trust(!critical(one, ID.usage), 'an issuer with critical extendedKeyUsage');
    const serves = facts.usages.includes(SERVER_AUTH) || facts.usages.includes(ANY_USAGE);
    trust(serves, 'an issuer for other usages');
  }
  trust(facts.basic.length === null || intermediates <= facts.basic.length, 'a path too long');
  if (facts.limits) {
    const hard = facts.limits.directory && critical(one, ID.nameConstraints);
    trust(!hard, 'critical nameConstraints on directory names');
    below.flatMap((lower) => lower.dns).forEach((name) => keepsConstraints(name, facts.limits));
  }
  knownExtensions(one);
}

function keepsConstraints(name, { permitted, excluded }) {
  const plain = name.toLowerCase().replace(/^\*\./, '');
  const within = (tree) =>
    tree === '' || plain === tree.replace(/^\./, '') || plain.endsWith(`.${tree.replace(/^\./, '')}`);
  const covers = (tree) => name.startsWith('*.') && tree.replace(/^\./, '').endsWith(`.${plain}`);
  trust(permitted.length === 0 || permitted.some(within), `${name} is not permitted`);
  trust(!excluded.some((tree) => within(tree) || covers(tree)), `${name} is excluded`);
}

// Rule 9: a beginning of the chain leads to one of these roots.
function leads(chain, facts, roots, time) {
  const reached = roots.some((root) =>
    chain.some((last, index) => {
      const isRoot = last.octets.equals(root.octets);
      if (!isRoot && !issued(root, last)) return false;
      try {
        const below = facts.slice(0, isRoot ? index : index + 1);
        checkIssuer(root, read(root), time, below.length - 1, below);
        return true;
      } catch {
        return false;
      }
    }),
  );
  trust(reached, 'no trusted root');
}

module.exports = { UNTRUSTED, checkChain };
