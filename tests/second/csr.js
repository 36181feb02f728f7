'use strict';
// What a CSR may be: docs/FORMAT.md, section 9, rules 1 to 5.

const der = require('./der.js');
const keys = require('./keys.js');
const x509 = require('./x509.js');
const { must, under } = require('./errors.js');

const REFUSED = 'csr-refused';
const [MOST, REQUEST, COMMON_NAME] = [32768, '1.2.840.113549.1.9.14', '2.5.4.3'];
const need = (holds, reason) => must(holds, REFUSED, reason);

/** Refuse a CSR that breaks a rule; names: those that are granted. Returns its public key. */
function checkCsr(octets, names) {
  need(octets.length <= MOST, 'too large');
  return under(REFUSED, () => {
    const [info, algorithm, signature, ...more] = der.inside(der.only(octets));
    const [version, subject, spki, attributes, ...rest] = der.inside(info);
    need(signature && more.length === 0 && attributes && rest.length === 0, 'not a PKCS#10');
    need(der.integer(version) === 0n, 'a version that does not exist');
    const key = keys.certificateKey(spki.all); // rule 1
    const scheme = x509.signatureScheme(algorithm);
    need(scheme && !scheme.options?.padding, 'another signature algorithm'); // rule 2
    need(x509.signedBy(scheme, info.all, der.wholeBits(signature), key.object), 'not signed by its key');
    checkNames(subjectAltName(attributes), names); // rules 3 and 4
    checkSubject(subject, names); // rule 5
    return key;
  });
}

function subjectAltName(attributes) {
  const found = der.inside(attributes, 0xa0).map((one) => der.inside(one));
  need(found.length === 1, 'not one attribute');
  const [[id, values, ...more]] = found;
  need(der.oid(id) === REQUEST && more.length === 0, 'an attribute that is no request for extensions');
  const [value, ...others] = der.inside(values, der.SET);
  need(value && others.length === 0, 'not one value');
  const extensions = x509.extensionList(value);
  const only = extensions.size === 1 && extensions.has(x509.ID.names);
  need(only, 'not subjectAltName alone');
  return x509.generalNames(extensions.get(x509.ID.names).octets);
}

function checkNames(found, names) {
  need(found.every((one) => one.kind === 'dns'), 'a name that is no DNS name');
  const asked = found.map((one) => one.text).sort().join();
  need(asked === [...names].sort().join(), 'not exactly the granted names');
}

function checkSubject(subject, names) {
  const parts = der.inside(subject).flatMap((one) => der.inside(one, der.SET));
  need(parts.length <= 1, 'the subject holds more than a common name');
  for (const part of parts) {
    const [id, value] = der.inside(part);
    const is = der.oid(id) === COMMON_NAME && names.includes(value.content.toString('latin1'));
    need(is, 'the subject is not one of the names');
  }
}

module.exports = { checkCsr };
