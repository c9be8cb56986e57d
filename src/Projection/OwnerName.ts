/**
 * How the owner of a projection is named when legacy runners run the projection: as it is stored, and as it is shown.
 */

/**
 * The name of the owner, in the store and in answers, while legacy runners own the projection together. They have no
 * token.
 */
export const TOKENLESS_OWNER = "runners without a token"

/** The name of the same runners in messages. */
export const LEGACY_RUNNERS = "legacy runners"

/** The owner for a person to read: the id of a worker, or words for the legacy runners. */
export const ownerText = (owner: string): string => (owner === TOKENLESS_OWNER ? LEGACY_RUNNERS : owner)
