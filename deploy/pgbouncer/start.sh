#!/bin/sh
# PgBouncer, with the password that the secret's volume holds now: the image has none.
set -eu
umask 077
password=$(sed 's/"/""/g' /run/scopegate/database/password)
printf '"scopegate" "%s"\n' "$password" > /tmp/userlist.txt
exec pgbouncer /etc/pgbouncer/pgbouncer.ini
