// Drives Apache Commons Net: one session, the jobs that standard input lists.

import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.HashMap;
import java.util.Map;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import org.apache.commons.net.PrintCommandListener;
import org.apache.commons.net.ftp.FTP;
import org.apache.commons.net.ftp.FTPClient;
import org.apache.commons.net.ftp.FTPFile;
import org.apache.commons.net.ftp.FTPSClient;

public final class CommonsNet {
    private static FTPClient ftp;

    public static void main(String[] arguments) throws Exception {
        Map<String, String> job = new HashMap<>();
        for (String word : arguments) {
            String[] parts = word.split("=", 2);
            job.put(parts[0], parts[1]);
        }
        Charset names = job.get("encoding").equals("latin1") ? StandardCharsets.ISO_8859_1 : StandardCharsets.UTF_8;
        boolean clear = job.get("tls").equals("clear");
        ftp = clear ? new FTPClient() : secured(job);
        int timeout = 1000 * Integer.parseInt(job.get("timeout"));
        ftp.setConnectTimeout(timeout);
        ftp.setDefaultTimeout(timeout);
        ftp.setControlEncoding(names.name());
        ftp.setUseEPSVwithIPv4(job.get("data").equals("epsv"));
        ftp.addProtocolCommandListener(new PrintCommandListener(new PrintWriter(System.out, true)));
        ftp.connect(job.get("host"), Integer.parseInt(job.get("port")));
        must(ftp.login(job.get("user"), job.get("password")));
        if (!clear) {
            ((FTPSClient) ftp).execPBSZ(0);
            ((FTPSClient) ftp).execPROT("P");
        }
        if (!job.get("data").equals("active")) {
            ftp.enterLocalPassiveMode();
        }
        must(ftp.setFileType(FTP.BINARY_FILE_TYPE));
        must(ftp.changeWorkingDirectory(job.get("directory")));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            String name = words.length > 1 ? new String(bytes(words[1]), names) : null;
            byte[] second = words.length > 2 ? bytes(words[2]) : null;
            switch (words[0]) {
                case "list":
                    for (FTPFile file : ftp.listFiles()) {
                        System.out.println(file.getName());
                    }
                    break;
                case "upload":
                case "append":
                case "resume-upload":
                    upload(words[0], name, file(second));
                    break;
                case "download":
                case "resume-download":
                    download(words[0].equals("resume-download"), name, file(second));
                    break;
                case "rename":
                    must(ftp.rename(name, new String(second, names)));
                    break;
                case "delete":
                    must(ftp.deleteFile(name));
                    break;
                case "mkdir":
                    must(ftp.makeDirectory(name));
                    break;
                case "rmdir":
                    must(ftp.removeDirectory(name));
                    break;
                default:
                    throw new IOException("unknown job " + line);
            }
        }
        must(ftp.logout());
        ftp.disconnect();
    }

    private static FTPSClient secured(Map<String, String> job) throws Exception {
        FTPSClient ftps = new FTPSClient(job.get("tls").equals("implicit"));
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (InputStream ca = new FileInputStream(job.get("ca"))) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(ca));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        TrustManager[] list = managers.getTrustManagers();
        ftps.setTrustManager(list[0]);
        ftps.setEndpointCheckingEnabled(true);
        ftps.setEnabledProtocols(new String[] {"TLSv" + job.get("max_tls")});
        return ftps;
    }

    private static void upload(String verb, String name, File path) throws IOException {
        try (InputStream file = new FileInputStream(path)) {
            if (verb.equals("append")) {
                must(ftp.appendFile(name, file));
                return;
            }
            if (verb.equals("resume-upload")) {
                String size = ftp.getSize(name);
                must(size != null);
                file.skip(Long.parseLong(size));
                ftp.setRestartOffset(Long.parseLong(size));
            }
            must(ftp.storeFile(name, file));
        }
    }

    private static void download(boolean resume, String name, File path) throws IOException {
        if (resume) {
            ftp.setRestartOffset(path.length());
        }
        try (OutputStream file = new FileOutputStream(path, resume)) {
            must(ftp.retrieveFile(name, file));
        }
    }

    /** The replies were printed. */
    private static void must(boolean done) {
        if (!done) {
            System.exit(1);
        }
    }

    private static File file(byte[] path) {
        return new File(new String(path, StandardCharsets.UTF_8));
    }

    private static byte[] bytes(String word) {
        byte[] bytes = new byte[word.length() / 2];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) Integer.parseInt(word.substring(2 * i, 2 * i + 2), 16);
        }
        return bytes;
    }
}
