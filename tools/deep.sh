#!/usr/bin/env bash
# The long tests: deep.sh [STEP...], two of them side by side; without a step, all of them, within ATBR_DEEP_MINUTES (45).
# Each step (tools/deep-step.sh) logs to build/deep/STEP.log; a tool that the machine lacks leaves its step out and is named.
set -uo pipefail

work=build/deep
left_out=77
deadline=$((SECONDS + ${ATBR_DEEP_MINUTES:-45} * 60))

step() { # step NAME SECONDS: one step in a process of its own; writes a line of the summary, and returns whether it failed
  local name=$1 budget=$2 left=$((deadline - SECONDS)) start=$SECONDS code=0 word
  if [ "$left" -lt "$budget" ]; then budget=$left; fi
  if [ "$budget" -le 0 ]; then
    printf '%-18s %-9s\n' "$name" 'no time' >"$work/$name.summary"
    return 1
  fi
  printf -- '-- %s\n' "$name"
  timeout --kill-after=20 "$budget" tools/deep-step.sh "$name" >"$work/$name.log" 2>&1 || code=$?
  case $code in
    0) word=passed ;;
    "$left_out") word='left out' ;;
    124) word='timed out' ;;
    *) word=FAILED ;;
  esac
  printf '%-18s %-9s %5d s  %s\n' "$name" "$word" $((SECONDS - start)) \
    "$(grep -E '^(left out|test result|=+ .*(passed|failed))|ERROR SUMMARY|^Done [0-9]+ runs' "$work/$name.log" | tail -n 1)" \
    >"$work/$name.summary"
  if [ "$code" -ne 0 ] && [ "$code" -ne "$left_out" ]; then
    printf -- '-- %s %s\n%s\n' "$name" "$word" "$(tail -n 60 "$work/$name.log")"
    return 1
  fi
}

next() { # takes the first step out of the queue, and names it
  exec 9>"$work/queue.lock"
  flock 9
  head -n 1 "$work/queue"
  sed -i 1d "$work/queue"
}

row() { # one step of the queue after the other; returns whether any failed
  local name status=0
  while name=$(next) && [ -n "$name" ]; do step "$name" "${budgets[$name]}" || status=1; done
  return "$status"
}

cd "$(dirname "$0")/.." || exit
declare -A budgets=(
  [python]=1800 [pythons]=900 [freethreaded]=1500
  [rust]=900 [races]=300 [address]=900 [memcheck]=600 [fuzz]=900 [mutants]=900
)
# The longest first, and what needs the processor beside what waits.
steps=(python freethreaded address pythons rust fuzz mutants races memcheck)
for name in "$@"; do
  if [ -z "${budgets[$name]:-}" ]; then
    echo "deep: no step '$name'; there are: ${steps[*]}" >&2
    exit 2
  fi
done
if [ $# -gt 0 ]; then steps=("$@"); fi
mkdir -p "$work"
rm -f "$work"/*.summary
printf '%s\n' "${steps[@]}" >"$work/queue"
row &
status=0
row || status=1
wait $! || status=1
printf '\n'
for name in "${steps[@]}"; do cat "$work/$name.summary"; done
exit "$status"
