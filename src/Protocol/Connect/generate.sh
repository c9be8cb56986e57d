#!/usr/bin/env bash
# Writes worker_pb.ts from worker.proto; `npm run proto` runs this. The compiler is downloaded for each run and is no dependency
# of the package, since it is large and nothing else needs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec npm exec --yes --package=@bufbuild/buf@1.75.0 --package=@bufbuild/protoc-gen-es@2.17.0 -- buf generate . --path worker.proto --template '{"version":"v2","plugins":[{"local":"protoc-gen-es","out":".","opt":["target=ts","import_extension=ts"]}]}'
