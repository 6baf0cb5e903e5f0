"""Logs in by Python's ftplib for a test; what stands behind this text does the rest by `session()`."""
import ftplib
import socket
import ssl
import sys

job = dict(word.split("=", 1) for word in sys.argv[1:])
TIMEOUT = int(job["timeout"])
ENCODING = job.get("encoding", "utf-8")


class Implicit(ftplib.FTP_TLS):
    """TLS with the first byte, which ftplib leaves to its users."""

    @property
    def sock(self):
        return self._sock

    @sock.setter
    def sock(self, value):
        if value is not None and not isinstance(value, ssl.SSLSocket):
            value = self.context.wrap_socket(value, server_hostname=self.host)
        self._sock = value


def with_host(base):
    """Verifies, and sends, the name asked for instead of the address that is connected to."""

    class Named(base):
        def connect(self, host, port):
            self.target = host
            self.real_create = socket.create_connection
            socket.create_connection = lambda at, *rest, **named: self.real_create(
                (host if at[0] == job["name"] else at[0], at[1]), *rest, **named)
            return super().connect(job["name"], port)

    return Named


def reusing(base):
    """Resumes the control connection's session on data connections; ftplib alone never does."""

    class Reusing(base):
        def ntransfercmd(self, cmd, rest=None):
            data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
            if self._prot_p:
                data = self.context.wrap_socket(
                    data, server_hostname=self.host, session=self.sock.session)
            return data, size

    return Reusing


def session():
    """Connects and logs in, with data connections as asked for."""
    if job["tls"] == "clear":
        ftp = ftplib.FTP(timeout=TIMEOUT, encoding=ENCODING)
    else:
        context = ssl.create_default_context(cafile=job["ca"])
        if job["max_tls"] == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        kind = Implicit if job["tls"] == "implicit" else ftplib.FTP_TLS
        if job["reuse"] == "yes":
            kind = reusing(kind)
        if job["name"] != job["host"]:
            kind = with_host(kind)
        ftp = kind(context=context, timeout=TIMEOUT, encoding=ENCODING)

    print(ftp.connect(job["host"], int(job["port"])))
    if job["tls"] == "implicit":
        # login() would send AUTH on a socket that it takes for plain.
        print(ftplib.FTP.login(ftp, job["user"], job["password"]))
    else:
        print(ftp.login(job["user"], job["password"]))
    if job["tls"] != "clear":
        print(ftp.prot_p())
    if job["data"] == "epsv":
        # ftplib chooses EPSV by the address family alone.
        ftp.af = socket.AF_INET6
    ftp.set_pasv(job["data"] != "active")
    return ftp
