export const fill = async (ask: (text: string) => Promise<unknown>): Promise<void> => { await ask("SELECT 1") }
