'use strict';
// The messages of docs/FORMAT.md, sections 6 to 12, as shapes for what strict_json.read returns.

const { members, list, nullOr, oneOf, flag, integer, text, pattern, octets } = require('./shapes.js');
const { digest, certificateId, name, names, when } = require('./shapes.js');

const PROBLEM = 'urn:split-horizon-relay:problem:';
const MOST_REFUSALS = 524288; // octets of an answer to receipts
const at = integer();
const host = pattern(/^[\p{L}\p{M}\p{N}\p{P}\p{S} ]{1,255}$/u);
const object = when((one) => one !== null && typeof one === 'object' && !Array.isArray(one), 'an object');
const version = pattern(/^[A-Za-z0-9._~-]{1,64}$/);
const served = list(
  members({ leaf_sha256: digest, not_after: integer(), address: nullOr(text()) }), 0, 16);
const outcome = oneOf('installed', 'rolled_back', 'refused', 'failed', 'removed');
const refusal = members({
  ...{ index: integer(0, 99), detail: text(500) },
  type: pattern(/^[a-z]+(-[a-z]+)*$/),
});
const finding = members({
  ...{ check: text(), subject: text(), what: text(), do: text() },
  verdict: oneOf('ok', 'note', 'unknown', 'warning', 'problem'),
});

/** After how many seconds a puller comes back: never sooner than a minute nor later than a day. */
const comeBack = (told) => Math.min(Math.max(told, 60), 86400);

/** Which of a list do not have the shape: `index`, `type` and `detail`, as an answer has them. */
function unreadable(values, shape) {
  return values.flatMap((one, index) => {
    try {
      shape(one);
      return [];
    } catch (error) {
      return [{ index, type: 'malformed-request', detail: error.reason }];
    }
  });
}

module.exports = {
  MOST_REFUSALS,
  comeBack,
  unreadable,
  PROBLEM,
  version,
  problem: members({ type: pattern(/^urn:split-horizon-relay:problem:[a-z-]+$/), status: integer(400, 599) },
    { title: text(), detail: text() }),
  enrolment: members({ signing_key: octets(32), sealing_key: octets(32), host, at }),
  enrolled: members({
    puller: digest,
    granted: list(members({ certificate: certificateId, names: list(name, 1, 100) }), 0, 4000),
  }),
  listing: members({
    certificates: list(members({
      ...{ certificate: certificateId, names: list(name, 1, 100), generation: integer() },
      ...{ not_after: integer(), key_origin: oneOf('agent', 'puller'), csr_wanted: flag },
    }), 0, 4000),
    come_back: integer(),
    version,
  }),
  bundle: members({ newest: integer(), bundle: nullOr(text()) }),
  accepted: members({ accepted: oneOf(true) }),
  receipts: members({ receipts: list(object, 1, 100) }),
  receipt: members({
    ...{ certificate: certificateId, generation: integer(), digest, outcome, served, at },
    error: pattern(/^(none|unexpected|(bundle|install|configuration)\/[a-z-]+)$/),
  }),
  reports: members({ reports: list(object, 1, 100) }),
  report: members({
    ...{ certificate: certificateId, names, generation: integer(), not_after: integer() },
    ...{ leaf_sha256: nullOr(digest), next_renewal: integer(), outcome, served, at },
    error: pattern(/^(?=.{1,64}$)[a-z]+(-[a-z]+)*(\/[a-z]+(-[a-z]+)*)?$/),
  }),
  refused: members({ refused: list(refusal, 0, 100) }),
  rehearsal: members({
    ...{ outcome: oneOf('running', 'done', 'failed'), staging: text(), bundle: nullOr(text()) },
    steps: list(members({ name: text(), good: flag, what: text(), do: text() }), 0, 32),
  }),
  examination: members({
    ...{ side: oneOf('puller', 'agent'), host: text(255), at, findings: list(finding, 0, 1000) },
    names: list(members({ name, addresses: list(text(), 0, 32), here: flag }), 0, 1000),
  }),
};
