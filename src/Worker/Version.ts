/** The version of this package, as workers announce it. */
export const SDK_VERSION = "0.8.0"
