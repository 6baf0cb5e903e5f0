systemd-sysusers portcullis.conf
systemd-tmpfiles --create portcullis.conf || :
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" -eq 1 ]; then
    systemctl --no-reload preset portcullis.service >/dev/null 2>&1 || :
else
    /usr/libexec/portcullis/restart-checked systemctl restart portcullis.service
fi
