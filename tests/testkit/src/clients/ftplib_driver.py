
# Stands behind ftplib_session.py: one action; a traceback and exit code 1 when anything fails.
ftp = session()
if job["action"] == "list":
    ftp.retrlines("LIST " + job["remote"] if job["remote"] else "LIST")
    print("list done")
elif job["action"] == "upload":
    with open(job["local"], "rb") as file:
        print(ftp.storbinary("STOR " + job["remote"], file))
else:
    with open(job["local"], "wb") as file:
        print(ftp.retrbinary("RETR " + job["remote"], file.write))
print(ftp.quit())
