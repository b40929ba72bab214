#!/bin/sh
# The fastest known way to create W1 with `ip -batch`: as few processes as possible, both ends of a pair created in place with
# one queue each, and two processes at a time where the order allows it. More processes do not help, because the kernel
# performs only one configuration request at a time.
#
#   ip-batch.sh make FOLDER           creates the state that the files in FOLDER describe
#   ip-batch.sh delete FOLDER         deletes the links one by one, from each namespace in turn
#
# FOLDER contains `namespaces` (one `ip netns add` per line), `links/*` (one `ip link add` per line), `names` (the names of
# the namespaces), and for each namespace a file `in/NAME` with the commands to run inside, and a file `del/NAME` with the
# deletions.
set -eu
folder=$2
case $1 in
  make)
    ip -batch "$folder/namespaces"
    for file in "$folder"/links/*; do
      ip -batch "$file"
    done
    xargs -P 2 -I NAME ip -n NAME -batch "$folder/in/NAME" < "$folder/names"
    ;;
  delete)
    for file in "$folder"/del/*; do
      ip -n "${file##*/}" -batch "$file"
    done
    ;;
  *)
    echo "$0: make or delete" >&2
    exit 2
    ;;
esac
