// Drives .NET's FtpWebRequest, as Mono has it: the jobs that standard input lists, by one control connection as long as it
// keeps it.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using System.Text;

static class Driver {
    static readonly Dictionary<string, string> job = new Dictionary<string, string>();

    static int Main(string[] arguments) {
        foreach (var word in arguments) {
            var parts = word.Split(new[] {'='}, 2);
            job[parts[0]] = parts[1];
        }
        var ca = new X509Certificate2(job["ca"]);
        ServicePointManager.ServerCertificateValidationCallback = (sender, certificate, chain, errors) =>
            chain.Build(new X509Certificate2(certificate)) || certificate.Issuer == ca.Subject;
        try {
            for (var line = Console.In.ReadLine(); line != null; line = Console.In.ReadLine()) {
                var words = line.Split(' ');
                Do(words[0], words.Skip(1).Select(word => Encoding.UTF8.GetString(Bytes(word))).ToArray());
            }
        } catch (WebException error) {
            Console.Error.WriteLine(error);
            if (error.Response is FtpWebResponse response)
                Console.Error.WriteLine(response.StatusDescription);
            return 1;
        }
        return 0;
    }

    static void Do(string verb, string[] words) {
        switch (verb) {
        case "list":
            Receive(Request(WebRequestMethods.Ftp.ListDirectoryDetails, ""), Console.OpenStandardOutput());
            break;
        case "upload":
            Send(Request(WebRequestMethods.Ftp.UploadFile, words[0]), words[1], 0);
            break;
        case "append":
            Send(Request(WebRequestMethods.Ftp.AppendFile, words[0]), words[1], 0);
            break;
        case "resume-upload":
            long size;
            using (var response = (FtpWebResponse)Request(WebRequestMethods.Ftp.GetFileSize, words[0]).GetResponse())
                size = response.ContentLength;
            var rest = Request(WebRequestMethods.Ftp.UploadFile, words[0]);
            rest.ContentOffset = size;
            Send(rest, words[1], size);
            break;
        case "download":
        case "resume-download":
            var request = Request(WebRequestMethods.Ftp.DownloadFile, words[0]);
            using (var file = new FileStream(words[1], verb == "download" ? FileMode.Create : FileMode.Append)) {
                request.ContentOffset = file.Position;
                Receive(request, file);
            }
            break;
        case "rename":
            var rename = Request(WebRequestMethods.Ftp.Rename, words[0]);
            rename.RenameTo = words[1];
            Finish(rename);
            break;
        case "delete":
            Finish(Request(WebRequestMethods.Ftp.DeleteFile, words[0]));
            break;
        case "mkdir":
            Finish(Request(WebRequestMethods.Ftp.MakeDirectory, words[0]));
            break;
        case "rmdir":
            Finish(Request(WebRequestMethods.Ftp.RemoveDirectory, words[0]));
            break;
        default:
            throw new InvalidOperationException("unknown job " + verb);
        }
    }

    static FtpWebRequest Request(string method, string name) {
        var host = job["host"].Contains(":") ? "[" + job["host"] + "]" : job["host"];
        var path = string.Join("/", name.Split('/').Select(Uri.EscapeDataString));
        var request = (FtpWebRequest)WebRequest.Create("ftp://" + host + ":" + job["port"] + "/" + job["directory"] + "/" + path);
        request.Method = method;
        request.Credentials = new NetworkCredential(job["user"], job["password"]);
        request.EnableSsl = job["tls"] == "explicit";
        request.UsePassive = job["data"] != "active";
        request.Timeout = request.ReadWriteTimeout = 1000 * int.Parse(job["timeout"]);
        return request;
    }

    static void Send(FtpWebRequest request, string path, long offset) {
        using (var file = File.OpenRead(path)) {
            file.Position = offset;
            using (var stream = request.GetRequestStream())
                file.CopyTo(stream);
        }
        Finish(request);
    }

    static void Receive(FtpWebRequest request, Stream to) {
        using (var response = (FtpWebResponse)request.GetResponse()) {
            using (var stream = response.GetResponseStream())
                stream.CopyTo(to);
            Console.WriteLine(response.StatusDescription);
        }
    }

    static void Finish(FtpWebRequest request) {
        using (var response = (FtpWebResponse)request.GetResponse())
            Console.WriteLine(response.StatusDescription);
    }

    static byte[] Bytes(string word) {
        return Enumerable.Range(0, word.Length / 2).Select(i => Convert.ToByte(word.Substring(2 * i, 2), 16)).ToArray();
    }
}
