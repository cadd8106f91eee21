%% Makes the boot file of the release, in which it differs from the one that relx
%% makes: what kernel would have loaded at the start for those who compile or
%% evaluate is loaded when it is called, as all other code is, and no file `.erlang' of
%% some home directory is evaluated. That is half a megabyte less.
%%
%%     escript config/boot.escript EBIN_OF_PORTMAPPER DIRECTORY

-mode(compile).

-define(APPLICATIONS, [kernel, stdlib, portmapper]).
-define(LATER, [erl_eval, erl_lint, erl_parse]).

main([Ebin, Directory]) ->
    true = code:add_patha(Ebin),
    Release = {release, {"portmapper", version(portmapper)}, {erts, erlang:system_info(version)}, [
        {Application, version(Application)}
     || Application <- ?APPLICATIONS
    ]},
    Start = filename:join(Directory, "start"),
    ok = file:write_file(Start ++ ".rel", io_lib:format("~p.~n", [Release])),
    ok = systools:make_script(Start, [
        {path, [Ebin]}, {outdir, Directory}, no_warn_sasl, no_dot_erlang
    ]),
    {ok, [{script, Id, Instructions}]} = file:consult(Start ++ ".script"),
    Script = {script, Id, lists:map(fun instruction/1, Instructions)},
    ok = file:write_file(Start ++ ".script", io_lib:format("~p.~n", [Script])),
    ok = systools:script2boot(Start).

version(Application) ->
    _ = application:load(Application),
    {ok, Version} = application:get_key(Application, vsn),
    Version.

instruction({primLoad, Modules}) -> {primLoad, Modules -- ?LATER};
instruction({path, Directories}) -> {path, lists:map(fun in_release/1, Directories)};
instruction(Other) -> Other.

%% OTP's applications are named so already.
in_release("$ROOT" ++ _ = Directory) -> Directory;
in_release(_) -> "$ROOT/lib/portmapper-" ++ version(portmapper) ++ "/ebin".
