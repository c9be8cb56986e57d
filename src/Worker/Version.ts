/** The version of this package that workers announce. */
export const SDK_VERSION = "0.8.0"
