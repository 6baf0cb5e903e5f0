
# Stands behind ftplib_session.py: does the jobs that standard input lists.
ftp = session()
ftp.set_debuglevel(1)
ftp.cwd(job["directory"])
for line in sys.stdin:
    verb, *words = line.split()
    words = [bytes.fromhex(word) for word in words]
    names = [word.decode(job["encoding"]) for word in words]
    if verb == "list":
        ftp.retrlines("LIST")
    elif verb in ("upload", "append", "resume-upload"):
        with open(words[1], "rb") as file:
            rest = None
            if verb == "resume-upload":
                ftp.voidcmd("TYPE I")
                rest = ftp.size(names[0])
                file.seek(rest)
            command = "APPE" if verb == "append" else "STOR"
            ftp.storbinary(f"{command} {names[0]}", file, rest=rest)
    elif verb in ("download", "resume-download"):
        resume = verb == "resume-download"
        with open(words[1], "ab" if resume else "wb") as file:
            ftp.retrbinary(f"RETR {names[0]}", file.write, rest=file.tell() if resume else None)
    else:
        {"rename": ftp.rename, "delete": ftp.delete, "mkdir": ftp.mkd, "rmdir": ftp.rmd}[verb](*names)
ftp.quit()
