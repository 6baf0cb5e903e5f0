# 0 packages are left: not an upgrade.
if [ "$1" -eq 0 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl --no-reload disable --now portcullis.service portcullis.socket || :
    else
        systemctl --no-reload disable portcullis.service portcullis.socket || :
    fi
fi
