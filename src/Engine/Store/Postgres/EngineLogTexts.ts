/** What an engine logs about itself and the other engines on its schema. */

/** Logged when this engine stops its turns. */
export const AWAY_MESSAGE =
  "This engine stops its turns: Postgres could not be reached for so long that other engines may take them over"

/** Logged when this engine is back after other engines have declared it dead. */
export const RETURNED_MESSAGE =
  "Other engines have declared this engine dead and taken over its work, because it was frozen or cut off from Postgres for too long. This engine is back, has given up the turns that it had, and takes new turns"

/** Logged when this engine has declared other engines dead. */
export const lostEnginesMessage = (names: ReadonlyArray<string>): string =>
  `Engines were lost, and other engines take over their work: ${names.join("; ")}`

/** Logged when Postgres is another server than before. */
export const otherServerMessage = (hasLostCommits: boolean): string =>
  "Postgres is another server than before, and " +
  (hasLostCommits
    ? "the last commits that Postgres had acknowledged are lost. This engine reads everything again and continues with the data that is there. Set synchronous_standby_names to lose nothing"
    : "has everything that this engine has committed: the engine continues on the new server")
