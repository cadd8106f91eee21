%% Clients of the port mapper that are not VMs of ours: each a program that is told
%% lines on its standard input, answers a line each, and ends with it. They run
%% with this host's OTP or in the directory of another system (`chroot').
-module(clients).

-export([missing/1, program/1, command/2]).
-export([start_java/1, start_c_node/4, start_elixir/3]).
-export([ask/2, stop/1]).
-export_type([system/0, client/0]).

-type system() :: host | {chroot, file:filename()}.
-type client() :: port().

%% A JVM may take its time on a busy machine.
-define(DEADLINE, 30_000).

%% Evaluated by Elixir.
-define(ELIXIR,
    "IO.puts(:started)\n"
    "for \"ping \" <> node <- IO.stream(:stdio, :line) do\n"
    "  IO.puts(Node.ping(String.to_atom(String.trim(node))) == :pong)\n"
    "end"
).

%% @doc Debian's packages that a kind of client needs and this host lacks.
-spec missing(epmd | erl_call | jinterface | ei | elixir) -> [Package :: string()].
missing(Kind) ->
    [Package || {false, Package} <- needed(Kind)].

needed(epmd) -> [{program("epmd"), "erlang-base"}];
needed(erl_call) -> [{program("erl_call"), "erlang-base"}];
needed(jinterface) -> [{program("javac"), "default-jdk-headless"}, {jar(), "erlang-jinterface"}];
needed(ei) -> [{program("cc"), "gcc"}, {libei(), "erlang-dev"}];
needed(elixir) -> [{program("elixir"), "elixir"}].

%% @doc A program in the path, or where OTP has its own.
-spec program(string()) -> file:filename() | false.
program(Name) ->
    Own = filename:join([code:root_dir(), "erts-" ++ erlang:system_info(version), "bin"]),
    case os:find_executable(Name) of
        false -> os:find_executable(Name, Own);
        Path -> Path
    end.

%% @doc How a program of a system is run from here.
-spec command(system(), string()) -> [string()].
command(host, Name) -> [program(Name)];
command({chroot, Root}, Name) -> ["chroot", Root, Name].

%% @doc jinterface, which is told what to do.
-spec start_java(inet:port_number()) -> client().
start_java(Port) ->
    start([program("java"), "-cp", jar(), source("Client.java")], Port).

%% @doc A C node, compiled in a directory, and the port that it registered.
-spec start_c_node(system(), file:filename(), Name :: string(), inet:port_number()) ->
    {client(), inet:port_number()}.
start_c_node(System, Directory, Name, Port) ->
    CNode = start(compiled_c_node(System, Directory) ++ [Name], Port),
    {CNode, binary_to_integer(answer(CNode))}.

compiled_c_node(host, Directory) ->
    Program = filename:join(Directory, "c_node"),
    Ei = code:lib_dir(erl_interface),
    Directories = ["-I", filename:join(Ei, "include"), "-L", filename:join(Ei, "lib")],
    Compile = ["cc", "-o", Program, source("c_node.c") | Directories] ++ ["-lei", "-lpthread"],
    {0, <<>>} = testkit:run(Compile),
    [Program];
compiled_c_node({chroot, Root} = System, _Directory) ->
    {ok, _} = file:copy(source("c_node.c"), filename:join(Root, "tmp/c_node.c")),
    Compile = ["-o", "/tmp/c_node", "/tmp/c_node.c", "-lei", "-lpthread"],
    {0, <<>>} = testkit:run(command(System, "tcc") ++ Compile),
    command(System, "/tmp/c_node").

%% @doc An Elixir node, `Name@127.0.0.1'.
-spec start_elixir(system(), Name :: string(), inet:port_number()) -> client().
start_elixir(System, Name, Port) ->
    Named = ["--name", Name ++ "@127.0.0.1", "--cookie", "portmapper"],
    Arguments = ["--erl", "-start_epmd false", "-e", ?ELIXIR],
    Elixir = start(command(System, "elixir") ++ Named ++ Arguments, Port),
    <<"started">> = answer(Elixir),
    Elixir.

start([Program | Arguments], Port) ->
    Environment = program:environment([{"LC_ALL", "C.UTF-8"} | testkit:epmd_port(Port)]),
    open_port(
        {spawn_executable, os:find_executable(Program)},
        [{args, Arguments}, {env, Environment}, {line, 1000}, binary]
    ).

%% @doc The answer to a line.
-spec ask(client(), iodata()) -> binary().
ask(Client, Line) ->
    true = port_command(Client, [Line, $\n]),
    answer(Client).

answer(Client) ->
    receive
        {Client, {data, {eol, Answer}}} -> Answer
    after ?DEADLINE -> error({no_answer, Client})
    end.

%% @doc Ends its input, with which it ends.
-spec stop(client()) -> ok.
stop(Client) ->
    true = port_close(Client),
    ok.

source(Name) ->
    filename:join([program:root(), "test", "clients_SUITE_data", Name]).

jar() ->
    library_file(jinterface, "priv/OtpErlang.jar").

libei() ->
    library_file(erl_interface, "lib/libei.a").

library_file(Application, File) ->
    case code:lib_dir(Application) of
        {error, bad_name} ->
            false;
        Dir ->
            Path = filename:join(Dir, File),
            filelib:is_regular(Path) andalso Path
    end.
