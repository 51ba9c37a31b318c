package bench;

/** Entry point: name=value arguments in, one JSON line out. bench/README.md tells the contract. */
public final class Main {
    public static void main(String[] args) throws Exception {
        Options options = Options.parse(args);
        Progress progress = new Progress(options.number("expected"));
        if (options.text("runtime").equals("loop")) {
            Loop.run(options, progress);
        } else {
            StreamsRun.run(options, progress);
        }
        System.out.println(progress.json());
        System.out.flush();
        System.exit(0);
    }
}
