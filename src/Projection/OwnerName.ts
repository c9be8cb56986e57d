/** The owner of a projection that legacy runners run, as it is stored, and as it is shown. */

/** The stored name of the owner while legacy runners, which have no token, own the projection together. Answers have it too. */
export const TOKENLESS = "runners without a token"

/** What messages call these runners. */
export const LEGACY_RUNNERS = "legacy runners"

/** The owner for a person to read: the id of a worker, or words for the legacy runners. */
export const shownOwner = (owner: string): string => (owner === TOKENLESS ? LEGACY_RUNNERS : owner)
