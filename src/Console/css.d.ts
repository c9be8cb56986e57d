/** The type of style sheets, which are only imported for their effect. */
declare module "*.css"
