#!/usr/bin/env bash
# The long tests: deep.sh [STEP...]; without a step, all of them, within ATBR_DEEP_MINUTES (45).
# Each step (tools/deep-step.sh) logs to build/deep/STEP.log; a tool that the machine lacks leaves its step out and is named.
set -uo pipefail

work=build/deep
left_out=77
deadline=$((SECONDS + ${ATBR_DEEP_MINUTES:-45} * 60))
summary=()
status=0

step() { # step NAME SECONDS: one step in a process of its own
  local name=$1 budget=$2 left=$((deadline - SECONDS)) start=$SECONDS code=0 word
  if [ "$left" -lt "$budget" ]; then budget=$left; fi
  if [ "$budget" -le 0 ]; then
    summary+=("$(printf '%-18s %-9s' "$name" 'no time')")
    status=1
    return
  fi
  printf -- '-- %s\n' "$name"
  timeout --kill-after=20 "$budget" tools/deep-step.sh "$name" >"$work/$name.log" 2>&1 || code=$?
  case $code in
    0) word=passed ;;
    "$left_out") word='left out' ;;
    124) word='timed out' ;;
    *) word=FAILED ;;
  esac
  if [ "$code" -ne 0 ] && [ "$code" -ne "$left_out" ]; then
    status=1
    tail -n 60 "$work/$name.log"
  fi
  summary+=("$(printf '%-18s %-9s %5d s  %s' "$name" "$word" $((SECONDS - start)) \
    "$(grep -E '^(left out|test result|=+ .*(passed|failed))|ERROR SUMMARY|^Done [0-9]+ runs' "$work/$name.log" | tail -n 1)")")
}

cd "$(dirname "$0")/.." || exit
declare -A budgets=(
  [rust]=600 [races]=300 [address]=600 [memcheck]=480 [fuzz]=480 [mutants]=900
  [python]=1500 [pythons]=900 [freethreaded]=600
)
steps=("$@")
if [ ${#steps[@]} -eq 0 ]; then
  steps=(python pythons freethreaded rust races address memcheck fuzz mutants)
fi
mkdir -p "$work"
for name in "${steps[@]}"; do
  if [ -z "${budgets[$name]:-}" ]; then
    echo "deep: no step '$name'; there are: ${!budgets[*]}" >&2
    exit 2
  fi
  step "$name" "${budgets[$name]}"
done
printf '\n'
printf '%s\n' "${summary[@]}"
exit "$status"
