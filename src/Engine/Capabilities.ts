/** What this engine can do beyond the baseline of all Ironflow servers. */
import type { ServerCapabilities } from "../Client/Client.ts"
import { SDK_VERSION } from "../SdkVersion.ts"

export const capabilities: ServerCapabilities = {
  transports: ["connect-json", "rest", "channel", "rpc", "connect"],
  features: [
    "turns",
    "longPoll",
    "batchJobs",
    "batchReports",
    "progress",
    "explain",
    "waitForRun",
    "streams",
    "transactions"
  ],
  version: SDK_VERSION
}
