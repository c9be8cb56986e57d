/**
 * The test files that `npm test` leaves out, so that it ends in six minutes on two cores: floods, storms, and what a shorter file checks
 * too. They take a third of the time of all tests. `npm run test:all`, `npm run test:long` and `.ci/run` run them.
 */
export const onlyWhole: ReadonlyArray<string> = [
  // floods of frames and requests, against a server in another process
  "test/security/pressure.test.ts",
  "test/security/http2.test.ts",
  // every way to every effect; `security/matrix` tries each call with each key
  "test/security/effects.test.ts",
  // processes that are killed and frozen, on several engines and on all transports; `durability/durability` kills one app in all places
  "test/durability/nodes.test.ts",
  "test/durability/matrix.test.ts",
  "test/durability/streams.test.ts",
  "test/durability/failover.test.ts",
  "test/durability/diskFull.test.ts",
  "test/durability/poison.test.ts",
  "test/Engine/Nodes/Processes.test.ts",
  // connections that break all the time
  "test/Worker/StreamChaos.test.ts",
  "test/Worker/sockets.test.ts",
  // the suite of `Store/Sqlite` and `postgres/Store` on the driver in a thread
  "test/Engine/Store/Thread.test.ts"
]
