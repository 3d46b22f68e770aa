#!/usr/bin/env bash
# testssl.sh finds nothing of weight: no finding of severity MEDIUM or worse, but those that come from a certificate that
# this script has signed itself.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
need testssl testssl.sh
python pip
proxy

testssl --quiet --color 0 --warnings off --fast --jsonfile "$folder/findings.json" "localhost:$secure" >"$folder/testssl.log" 2>&1
"$python" - "$folder/findings.json" <<'END' || fail "testssl.sh"
import json, sys

# What speaks of the certificate, which this script has signed itself, or of the fields that the instance sends.
OWN = ("cert", "DNS_CAArecord", "OCSP_stapling", "overall_grade", "security_headers", "HSTS", "HTTP_", "scanProblem", "engine_problem")
findings = json.load(open(sys.argv[1], encoding="utf-8"))
ids = {finding["id"] for finding in findings}
# A scan that saw nothing has found nothing, too.
missing = {"TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "LUCKY13"} - ids
bad = [f for f in findings if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL") and not f["id"].startswith(OWN)]
for finding in bad:
    print(finding["severity"], finding["id"], finding["finding"])
print(len(findings), "findings,", len(bad), "of weight, missing:", sorted(missing))
sys.exit(bool(bad or missing))
END
