#!/bin/sh
# PgBouncer, with the password that the secret's volume holds now: the image has none.
set -eu
umask 077
password=$(sed 's/"/""/g' /run/scopegate/service-role/password)
printf '"scopegate_service" "%s"\n' "$password" > /tmp/userlist.txt
exec pgbouncer /etc/pgbouncer/pgbouncer.ini
