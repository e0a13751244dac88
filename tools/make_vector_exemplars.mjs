// Draws 24 flat vector heads with open eyes: ToonHead by Johan Melin (CC BY 4.0), by DiceBear.
//
//   npm install @dicebear/core@9.4.3 @dicebear/toon-head@9.4.3 @resvg/resvg-js@2
//   node tools/make_vector_exemplars.mjs FOLDER
import { createAvatar } from "@dicebear/core";
import * as toonHead from "@dicebear/toon-head";
import { Resvg } from "@resvg/resvg-js";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const COUNT = 24;
const folder = process.argv[2];
if (!folder) throw new Error("usage: node make_vector_exemplars.mjs FOLDER");
mkdirSync(folder, { recursive: true });
for (let number = 0; number < COUNT; number++) {
  const avatar = createAvatar(toonHead, {
    seed: `head-${number}`,
    size: 512,
    backgroundColor: ["b6c6d8"],
    eyes: ["wide"],
    mouth: ["smile", "smile", "laugh"],
    eyebrows: ["happy", "neutral", "raised"],
    beardProbability: 0,
  });
  const picture = new Resvg(avatar.toString(), { fitTo: { mode: "width", value: 512 } }).render().asPng();
  writeFileSync(join(folder, `${String(number).padStart(2, "0")}.png`), picture);
}
writeFileSync(
  join(folder, "LICENSE.txt"),
  "SPDX-License-Identifier: CC-BY-4.0\nOrigin: ToonHead by Johan Melin (https://www.figma.com/community/file/1589627891082866389), " +
    "remixed by DiceBear 9.4.3 (https://www.dicebear.com)\n",
);
