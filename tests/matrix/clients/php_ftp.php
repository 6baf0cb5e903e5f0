// Drives PHP's extension for FTP: one session, the jobs that standard input lists.
$job = [];
foreach (array_slice($argv, 1) as $word) {
    [$key, $value] = explode("=", $word, 2);
    $job[$key] = $value;
}

// A warning is where the extension tells of the server's reply.
set_error_handler(function ($severity, $message) {
    fwrite(STDERR, "$message\n");
    exit(1);
});

function must($done) {
    if ($done === false || $done === -1) {
        fwrite(STDERR, "failed without a warning\n");
        exit(1);
    }
    return $done;
}

$connect = $job["tls"] == "explicit" ? "ftp_ssl_connect" : "ftp_connect";
$ftp = must($connect($job["host"], (int) $job["port"], (int) $job["timeout"]));
must(ftp_login($ftp, $job["user"], $job["password"]));
must(ftp_pasv($ftp, $job["data"] != "active"));
must(ftp_chdir($ftp, $job["directory"]));
while (($line = fgets(STDIN)) !== false) {
    $words = explode(" ", trim($line));
    $verb = array_shift($words);
    [$name, $second] = array_map("hex2bin", $words) + ["", ""];
    match ($verb) {
        "list" => print(implode("\n", must(ftp_rawlist($ftp, ""))) . "\n"),
        "upload" => must(ftp_put($ftp, $name, $second)),
        "append" => must(ftp_append($ftp, $name, $second)),
        "resume-upload" => must(ftp_put($ftp, $name, $second, FTP_BINARY, must(ftp_size($ftp, $name)))),
        "download" => must(ftp_get($ftp, $second, $name)),
        "resume-download" => must(ftp_get($ftp, $second, $name, FTP_BINARY, filesize($second))),
        "rename" => must(ftp_rename($ftp, $name, $second)),
        "delete" => must(ftp_delete($ftp, $name)),
        "mkdir" => must(ftp_mkdir($ftp, $name)),
        "rmdir" => must(ftp_rmdir($ftp, $name)),
    };
}
must(ftp_close($ftp));
