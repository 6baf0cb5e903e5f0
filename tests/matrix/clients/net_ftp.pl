# Drives Perl's Net::FTP: one session, the jobs that standard input lists.
use strict;
use warnings;
use Net::FTP;

my %job = map { split /=/, $_, 2 } @ARGV;
my $version = $job{max_tls} eq "1.2" ? "TLSv1_2" : "TLSv1_3";

# Says every line of the dialogue.
my $ftp = Net::FTP->new(
    $job{host}, Port => $job{port}, Timeout => $job{timeout}, Passive => $job{data} ne "active", Debug => 1,
    SSL => $job{tls} eq "implicit", SSL_ca_file => $job{ca}, SSL_version => $version) or die "connect: $@\n";

sub must {
    my ($done) = @_;
    defined $done && $done ne "" or die "failed: " . $ftp->code . " " . $ftp->message . "\n";
    return $done;
}

must($ftp->starttls) if $job{tls} eq "explicit";
must($ftp->login($job{user}, $job{password}));
must($ftp->prot("P")) if $job{tls} eq "implicit";
must($ftp->binary);
must($ftp->cwd($job{directory}));
while (my $line = <STDIN>) {
    my ($verb, @words) = split " ", $line;
    my ($name, $second) = map { pack "H*", $_ } @words;
    if ($verb eq "list") {
        print "$_\n" for $ftp->dir;
    } elsif ($verb eq "upload") {
        must($ftp->put($second, $name));
    } elsif ($verb eq "append") {
        must($ftp->append($second, $name));
    } elsif ($verb eq "resume-upload") {
        my $there = must($ftp->size($name));
        open my $file, "<:raw", $second or die "$second: $!\n";
        seek $file, $there, 0;
        $ftp->restart($there);
        must($ftp->put($file, $name));
    } elsif ($verb eq "download") {
        must($ftp->get($name, $second));
    } elsif ($verb eq "resume-download") {
        must($ftp->get($name, $second, -s $second));
    } elsif ($verb eq "rename") {
        must($ftp->rename($name, $second));
    } elsif ($verb eq "delete") {
        must($ftp->delete($name));
    } elsif ($verb eq "mkdir") {
        must($ftp->mkdir($name));
    } elsif ($verb eq "rmdir") {
        must($ftp->rmdir($name));
    }
}
$ftp->quit;
