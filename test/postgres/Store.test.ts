import { isLong } from "../Long.ts"
import { storeSuite } from "../Engine/Store/suite.ts"
import { layerPostgres } from "./Schemas.ts"

storeSuite("Postgres", layerPostgres, isLong)
