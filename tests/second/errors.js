'use strict';
// A refusal, named as docs/FORMAT.md and its vectors name it.

class Refused extends Error {
  constructor(type, reason) {
    super(`${type}: ${reason}`);
    this.type = type;
    this.reason = reason;
  }
}

/** Throw unless it holds. */
function must(holds, type, reason) {
  if (!holds) throw new Refused(type, reason);
}

/** Run something; whatever it refuses is refused under this type. */
function under(type, run) {
  try {
    return run();
  } catch (error) {
    if (error instanceof Refused) throw new Refused(type, error.reason);
    throw error;
  }
}

module.exports = { Refused, must, under };
